"""Masked-video models that may predict features of a frozen image encoder instead of pixels (SIGMA, SMILE)."""

from typing import Any

import torch
from torch import Tensor

from tubelets.models.backbones.video_vit.pixels import normalize_pixels, pixel_targets
from tubelets.models.methods.masked_video.modeling_masked_video import MaskedVideoAutoencoder
from tubelets.models.teachers.image_encoders import CachedImageEncoder, FrozenImageEncoder, load_image_encoder
from tubelets.objectives import standardize_features


class FeatureTargetAutoencoder(MaskedVideoAutoencoder):
    """Encoder and decoder with a frozen image encoder beside them, still without an objective.

    The frozen encoder, where the target needs one, is kept outside the weights: it is neither saved nor trained, and
    `load_teacher` fetches it.

    Args:
        config: sizes and constants, with the fields `uses_teacher`, `teacher`, `teacher_hidden_size` and
            `normalize_target`.
    """

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        object.__setattr__(self, "teacher", None)

    def prepare_for_pretraining(self, teacher_cache: str | None = None) -> None:
        """Load the frozen image encoder, if the target needs one.

        Args:
            teacher_cache: folder in which its features are kept, see `CachedImageEncoder`; None computes them anew.
        """
        if self.teacher is None:
            self.load_teacher()
        if self.teacher is not None and teacher_cache is not None:
            self.load_teacher(CachedImageEncoder(self.teacher, teacher_cache, str(self.config.teacher)))

    def load_teacher(self, teacher: FrozenImageEncoder | None = None) -> Any:
        """Attach the frozen image encoder that makes the targets; it follows the model's device and dtype.

        Args:
            teacher: an encoder at hand; None loads `config.teacher`, from the Hub or a folder.

        Returns:
            The model itself. Nothing happens if the target needs no teacher.

        Raises:
            ValueError: if no encoder is known, or the encoder's width is not `config.teacher_hidden_size`.
        """
        if not self.config.uses_teacher:
            return self
        if teacher is None:
            if self.config.teacher is None:
                raise ValueError(
                    f"no teacher is known for target_type={self.config.target_type!r} and teacher_hidden_size="
                    f"{self.config.teacher_hidden_size}; set teacher='library:name'"
                )
            teacher = load_image_encoder(self.config.teacher, self.config.image_size)
        if teacher.hidden_size != self.config.teacher_hidden_size:
            raise ValueError(
                f"the teacher's features have width {teacher.hidden_size}, but teacher_hidden_size="
                f"{self.config.teacher_hidden_size}; set it to the teacher's width"
            )
        # Past nn.Module's registry, so that it enters neither the state dict nor the optimiser.
        object.__setattr__(self, "teacher", teacher.to(self.device))
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return self

    @torch.no_grad()
    def targets(self, pixel_values: Tensor, masked_ids: Tensor, target_features: Tensor | None = None) -> Tensor:
        """What the masked tokens are compared with.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            masked_ids: int64 `(K * B, M)`: the masks of all clips, then, if there are several, the next masks of all.
            target_features: `(B, tokens, teacher_hidden_size)` before normalisation, or None to compute them.

        Returns:
            `(K * B, M, width)`: standardised pixels of the tubes, or standardised features of the teacher.

        Raises:
            ValueError: if features are needed and neither given nor computable.
        """
        if not self.config.uses_teacher:
            return pixel_targets(
                repeat_clips(pixel_values, len(masked_ids) // len(pixel_values)), masked_ids, self.config
            )
        if target_features is None:
            target_features = self.teacher_features(pixel_values)
        expected = (len(pixel_values), self.config.num_tokens, self.config.teacher_hidden_size)
        if tuple(target_features.shape) != expected:
            raise ValueError(f"target_features must have shape {expected}, got {tuple(target_features.shape)}")
        if self.config.normalize_target:
            target_features = standardize_features(target_features)
        ids = masked_ids.unflatten(0, (-1, len(pixel_values)))
        chosen = target_features.expand(len(ids), -1, -1, -1).gather(2, ids[..., None].expand(-1, -1, -1, expected[2]))
        return chosen.flatten(0, 1)

    def teacher_features(self, pixel_values: Tensor) -> Tensor:
        """Features of the frozen encoder for the first frame of each tube: `(B, tokens, teacher_hidden_size)`.

        The encoder sees the frames as the model does, with the model's own mean and deviation (smile.md, section 2).
        """
        if self.teacher is None:
            raise ValueError(
                f"target_type={self.config.target_type!r} needs the frozen encoder {self.config.teacher!r}: call "
                "load_teacher() once, or pass target_features"
            )
        frames = normalize_pixels(pixel_values[:, :: self.config.tubelet_size], self.config, channel_dim=2)
        _, rows, columns = self.config.grid
        features = self.teacher(frames.flatten(0, 1), (rows, columns))
        return features.unflatten(0, (len(pixel_values), -1)).flatten(1, 2)


def repeat_clips(pixel_values: Tensor, times: int) -> Tensor:
    """Put copies of a batch behind each other, one for each mask of a clip.

    Example:
        >>> repeat_clips(torch.tensor([1, 2]), 2)
        tensor([1, 2, 1, 2])
    """
    return pixel_values if times == 1 else pixel_values.repeat(times, *[1] * (pixel_values.ndim - 1))
