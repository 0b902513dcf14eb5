"""SMILE: spatial and motion semantics in masked video learning (Thoker et al., CVPR 2025, arXiv 2504.00527).

A video ViT predicts the standardised features that a frozen image-language model gives the masked tubes. In the first
stage, objects are pasted into the clips and more of the tokens on their paths are masked (`processing_smile`); in the
second one, clips and masks are plain. Networks and loss are the same in both.
"""

from typing import Any

from torch import Tensor
from transformers.utils import can_return_tuple

from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.backbones.video_vit.pixels import pixel_targets
from tubelets.models.backbones.video_vit.tubes import check_video
from tubelets.models.methods.masked_video.feature_targets import first_frame_features, masked_features
from tubelets.models.methods.masked_video.modeling_masked_video import MaskedVideoAutoencoder, MaskedVideoOutput
from tubelets.models.methods.smile.configuration_smile import SmileConfig
from tubelets.models.teachers import Student, TeacherSpec
from tubelets.objectives import masked_regression_loss


class SmileModel(TubeletsVideoMAEModel):
    """SMILE's video encoder: token features of clips.

    Args:
        config: sizes and constants.
        initialize_blocks: marks how the blocks' weights are initialised.

    Example:
        >>> config = SmileConfig(image_size=32, num_frames=4, num_hidden_layers=1)
        >>> SmileModel(config)(torch.zeros(1, 4, 3, 32, 32)).pooler_output.shape
        torch.Size([1, 768])
    """

    config: SmileConfig


class SmileForVideoClassification(TubeletsVideoMAEForVideoClassification):
    """Video classifier on SMILE's encoder: mean over tokens, LayerNorm, linear head (smile.md, section 1.4).

    Args:
        config: sizes, labels and constants.

    Example:
        >>> config = SmileConfig(image_size=32, num_frames=4, num_hidden_layers=1, num_labels=3)
        >>> SmileForVideoClassification(config)(torch.zeros(2, 4, 3, 32, 32)).logits.shape
        torch.Size([2, 3])
    """

    config: SmileConfig


class SmileForPreTraining(Student, MaskedVideoAutoencoder):
    """SMILE pretraining: masked video model against features of a frozen image encoder (smile.md, sections 1 to 3).

    The frozen encoder is kept outside the weights, see `tubelets.models.teachers`. `SmileCollator` pastes moving
    objects into the clips and draws the masks.

    Args:
        config: sizes and constants.

    Example:
        >>> config = SmileConfig(image_size=32, num_frames=4, num_hidden_layers=1, mask_type="random", mask_ratio=0.5)
        >>> model = SmileForPreTraining(config)
        >>> masks = torch.stack([config.build_mask_generator()(3), config.build_mask_generator()(3)], dim=1)
        >>> output = model(torch.rand(3, 4, 3, 32, 32), masks, target_features=torch.rand(3, 8, 768))
        >>> output.logits.shape
        torch.Size([6, 4, 768])
    """

    config: SmileConfig

    def __init__(self, config: SmileConfig) -> None:
        super().__init__(config)
        self.post_init()

    @property
    def teacher_spec(self) -> TeacherSpec | None:
        """The frozen image encoder of the feature targets."""
        config = self.config
        if not config.uses_teacher:
            return None
        return TeacherSpec(config.teacher, config.teacher_hidden_size, config.image_size)

    def teacher_features(self, pixel_values: Tensor) -> Tensor:
        """Features of the frozen encoder for the first frame of each tube: `(B, tokens, teacher_hidden_size)`."""
        teacher = self.attached_teacher(f"target_type={self.config.target_type!r}")
        return first_frame_features(teacher, pixel_values, self.config)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor,
        num_masked: int | None = None,
        target_features: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedVideoOutput:
        """Predict the features of masked tubes.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            bool_masked_pos: bool `(B, tokens)`, or `(B, K, tokens)` with K masks per clip; True = masked, the same
                number in every mask. The teacher encodes each clip once for all its masks.
            num_masked: masked tokens of a mask; passing it avoids a synchronisation on accelerators.
            target_features: `(B, tokens, teacher_hidden_size)` features of a frozen encoder computed elsewhere, before
                normalisation; None computes them with the attached teacher.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The loss, predictions and targets. With K masks their first dimension is `K * B`: the first masks of all
            clips, then the second ones.

        Raises:
            ValueError: if the video or a mask does not fit the configuration, or features are needed and missing.
        """
        config = self.config
        check_video(pixel_values, config)
        # K masks of a clip are K clips with one mask each: the first masks of all clips, then the second ones.
        num_clips, videos = len(pixel_values), pixel_values
        if bool_masked_pos.ndim == 3:
            videos = pixel_values.repeat(bool_masked_pos.shape[1], 1, 1, 1, 1)  # (K * B, frames, channels, H, W)
            bool_masked_pos = bool_masked_pos.transpose(0, 1).flatten(0, 1)

        # The encoder processes only visible tubes; the decoder predicts the masked ones (section 1).
        visible_ids, masked_ids = self.videomae.split_tokens(videos, bool_masked_pos, num_masked)
        encoded = self.videomae(
            videos, visible_ids=visible_ids, return_dict=True, **kwargs
        )  # (K * B, N_vis, hidden_size)
        predictions = self.decode(encoded.last_hidden_state, visible_ids, masked_ids)  # (K * B, M, D)

        # Targets: standardised features of the frozen encoder, or pixels (sections 2 and 3).
        if config.uses_teacher:
            features = self.teacher_features(pixel_values) if target_features is None else target_features
            targets = masked_features(features, masked_ids, num_clips, config)
        else:
            targets = pixel_targets(videos, masked_ids, config)

        loss = masked_regression_loss(predictions, targets)
        return MaskedVideoOutput(
            loss=loss,
            logits=predictions,
            targets=targets,
            encoder_last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
