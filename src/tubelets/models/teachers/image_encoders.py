"""Frozen image towers of transformers, timm and open_clip behind one interface: images in, features on a grid out."""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.models.teachers.frozen import Teacher


class FrozenImageEncoder(Teacher):
    """A frozen network that gives each image one feature vector per cell of a grid."""

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, feature_size, rows, columns)` on the encoder's own grid."""

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Features on a token grid.

        Args:
            images: float `(images, channels, height, width)`, normalised.
            grid: rows and columns wanted; another grid of the encoder is resized bilinearly (sigma.md, section 3).

        Returns:
            `(images, rows * columns, feature_size)`, row-major.
        """
        features = self.feature_map(images.to(next(self.parameters()).dtype))
        if tuple(features.shape[-2:]) != tuple(grid):
            features = F.interpolate(features.float(), size=grid, mode="bilinear", align_corners=False)
        return features.flatten(2).transpose(1, 2)


def _square_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Patch tokens `(B, prefix + rows * columns, D)`, last ones last, as a map `(B, D, rows, columns)`."""
    return tokens[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


class TransformersImageEncoder(FrozenImageEncoder):
    """A vision model of transformers: DINO, DINOv2, ViT, CLIP and SigLIP towers, or a CNN.

    Args:
        model: the vision model; for CLIP-like towers the post layer norm is applied to all tokens, as SMILE does.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        fields = model.config.to_dict()
        self.patch_size = fields.get("patch_size")
        self.image_size = fields.get("image_size")
        self.feature_size = fields.get("hidden_size") or fields["hidden_sizes"][-1]
        # CLIP is the one tower whose last hidden state is from before its final norm.
        self.post_layernorm: Any = None
        if model.config.model_type.startswith("clip"):
            self.post_layernorm = getattr(model, "vision_model", model).post_layernorm
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, feature_size, rows, columns)`."""
        extra = {}
        height_width = tuple(images.shape[-2:])
        own = self.image_size
        if (
            self.patch_size is not None
            and own is not None
            and height_width != ((own, own) if isinstance(own, int) else tuple(own))
        ):
            extra["interpolate_pos_encoding"] = True
        hidden = self.model(pixel_values=images, **extra).last_hidden_state
        if hidden.ndim == 4:
            return hidden
        if self.post_layernorm is not None:
            hidden = self.post_layernorm(hidden)
        return _square_map(hidden, images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)


class TimmImageEncoder(FrozenImageEncoder):
    """A timm model; CNNs give the feature map of the wanted stride.

    Args:
        model: the model, without its classifier.
        stride: for CNNs, pixels per cell of the feature map that is used.

    Raises:
        ValueError: if a CNN has no feature map of that stride.
    """

    def __init__(self, model: nn.Module, stride: int = 16) -> None:
        super().__init__()
        self.model: Any = model
        self.is_vit = hasattr(model, "patch_embed") and hasattr(model, "num_prefix_tokens")
        if self.is_vit:
            self.feature_size = model.num_features
        else:
            stages = list(getattr(model.feature_info, "info", model.feature_info))
            reductions = [stage["reduction"] for stage in stages]
            if stride not in reductions:
                raise ValueError(f"the encoder has feature maps of strides {reductions}, none of stride {stride}")
            self.stage = len(reductions) - 1 - reductions[::-1].index(stride)
            self.feature_size = stages[self.stage]["num_chs"]
        self.freeze()

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, feature_size, rows, columns)`."""
        if not self.is_vit:
            return self.model.forward_intermediates(images, indices=[self.stage], intermediates_only=True)[0]
        patch_height, patch_width = self.model.patch_embed.patch_size
        tokens = self.model.forward_features(images)
        return _square_map(tokens, images.shape[-2] // patch_height, images.shape[-1] // patch_width)


class OpenClipImageEncoder(FrozenImageEncoder):
    """The visual tower of an open_clip model, post layer norm applied to all tokens.

    Args:
        visual: the tower.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual: Any = visual
        with torch.no_grad():
            self.feature_size = self._tokens(torch.zeros(1, 3, *visual.image_size)).shape[1]
        self.freeze()

    def _tokens(self, images: Tensor) -> Tensor:
        outputs = self.visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
        )
        return outputs["image_intermediates"][0]

    def feature_map(self, images: Tensor) -> Tensor:
        """Last features `(images, feature_size, rows, columns)`."""
        return self._tokens(images)
