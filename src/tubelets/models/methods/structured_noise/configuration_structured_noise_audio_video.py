"""Configuration of the audio-visual model: CAV-MAE on AudioSet (structured_noise_masking.md, sections 7 and 8)."""

from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.dataclasses import strict

from tubelets.data.modalities.specs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, VideoSpec
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import (
    StructuredNoiseAudioConfig,
    build_noise_masks,
)

if TYPE_CHECKING:
    from tubelets.masking import NoiseMaskGenerator


@strict
class StructuredNoiseAudioVideoConfig(StructuredNoiseAudioConfig):
    r"""Constants of a masked autoencoder of spectrograms and frames.

    Args:
        image_size: height and width of the frames in pixels; a multiple of `patch_size`.
        num_frames: frames per clip; CAV-MAE uses one. With more than `tubelet_size`, positions also count time (ours).
        tubelet_size: frames of a token; divides `num_frames`.
        num_channels: colour channels.
        image_mean: mean of each colour channel, on the scale [0, 1].
        image_std: standard deviation of each colour channel, on the scale [0, 1].
        num_hidden_layers: blocks of each modality.
        num_shared_layers: blocks that both modalities and their union pass through, with norms of their own.
        video_mask_type: mask of the frames, drawn independently of the audio mask: `green2d`, or for clips `green3d`.
        video_mask_ratio: share of masked video tokens, in [0, 1).
        video_mask_options: further fields of its generator.
        video_mask_bank: a bank for it, see `mask_bank`.
        reconstruction_weight: weight of the two reconstruction losses.
        contrastive_weight: weight of the contrast between the two modalities.
        contrastive_temperature: its softmax temperature.
        modality: inputs of a classifier: `both`, `audio` or `video`.
        **kwargs: fields of `StructuredNoiseAudioConfig`; the decoder is always a plain one.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> config = StructuredNoiseAudioVideoConfig()
        >>> config.num_audio_tokens, config.num_video_tokens, config.build_video_mask_generator().num_masked
        (512, 196, 147)
    """

    model_type = "structured_noise_audio_video"

    # (x + 5.081) / 4.4849
    spectrogram_mean: float | int = -5.081
    spectrogram_std: float | int = 2.24245
    token_order: Literal["time", "frequency"] = "frequency"
    num_hidden_layers: int = 11
    # The official code leaves LayerNorm's epsilon at PyTorch's default.
    layer_norm_eps: float = 1e-5
    decoder_type: Literal["window", "plain"] = "plain"
    mask_ratio: float | int = 0.75
    roll_augmentation: Literal["waveform", "spectrogram", "none"] = "spectrogram"
    gain_augmentation: bool = False
    noise_augmentation: float | int = 0.1
    head_init_scale: float | int = 1.0
    image_size: int = 224
    num_frames: int = 1
    tubelet_size: int = 1
    num_channels: int = 3
    image_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    image_std: list[float] | tuple[float, ...] = IMAGENET_STD
    num_shared_layers: int = 1
    video_mask_type: Literal["green2d", "random", "tube", "red2d", "blue2d", "red3d", "blue3d", "green3d"] = "green2d"
    video_mask_ratio: float | int = 0.75
    video_mask_options: dict[str, Any] | None = None
    video_mask_bank: str | None = None
    reconstruction_weight: float | int = 1.0
    contrastive_weight: float | int = 0.01
    contrastive_temperature: float | int = 0.05
    modality: Literal["both", "audio", "video"] = "both"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid of the frames, `(time, rows, columns)`."""
        side = self.image_size // self.patch_size
        return self.num_frames // self.tubelet_size, side, side

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Spectrograms, frames or both, as `modality` says."""
        specs: dict[str, InputSpec] = {} if self.modality == "video" else dict(super().input_specs)
        return specs if self.modality == "audio" else {**specs, "pixel_values": self._video_spec}

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Waveforms and frames of the same videos."""
        return {**super().pretraining_specs, "pixel_values": self._video_spec}

    @property
    def _video_spec(self) -> VideoSpec:
        statistics = tuple(self.image_mean), tuple(self.image_std)
        return VideoSpec(self.num_frames, self.image_height_width, self.num_channels, *statistics)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.image_size, self.image_size

    @property
    def num_video_tokens(self) -> int:
        """Tokens of the frames, visible and masked."""
        time, rows, columns = self.grid
        return time * rows * columns

    @property
    def num_tokens(self) -> int:
        """Tokens of sound and frames, visible and masked."""
        return self.num_audio_tokens + self.num_video_tokens

    @property
    def pixels_per_tube(self) -> int:
        """Values of a video token, e.g. 16 * 16 * 3 = 768."""
        return self.num_channels * self.tubelet_size * self.patch_size**2

    @property
    def num_values(self) -> int:
        """Approximate number of values in the largest model of this configuration."""
        # Each modality has blocks of its own; the shared ones are counted as often.
        blocks = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        video = blocks * (self.num_hidden_layers + self.num_shared_layers)
        return super().num_values + video + self.pixels_per_tube * (self.hidden_size + self.decoder_hidden_size)

    def build_video_mask_generator(self) -> "NoiseMaskGenerator":
        """The generator of the video masks of pretraining."""
        return build_noise_masks(
            self.video_mask_type, self.grid, self.video_mask_ratio, self.count_rule, self.video_mask_options
        )

    def validate_frames(self) -> None:
        """Reject frames that do not tile, statistics with a wrong number of channels, and unknown masks."""
        for name in ("image_size", "num_frames", "tubelet_size", "num_channels", "num_shared_layers"):
            if not 1 <= getattr(self, name) <= 2**14:
                raise ValueError(f"{name} must lie in [1, {2**14}], got {getattr(self, name)}")
        if self.image_size % self.patch_size or self.num_frames % self.tubelet_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size} and "
                f"num_frames={self.num_frames} of tubelet_size={self.tubelet_size}"
            )
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(f"{name} needs {self.num_channels} values, one per channel, got {getattr(self, name)}")
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std must be positive, got {self.image_std}")
        if self.decoder_type != "plain":
            raise ValueError(f"decoder_type must be 'plain' for audio with frames, got {self.decoder_type!r}")

    def validate_objective(self) -> None:
        """Reject weights and temperatures outside their range, and masks that the generator does not support."""
        if not 0 <= self.video_mask_ratio < 1:
            raise ValueError(f"video_mask_ratio must lie in [0, 1), got {self.video_mask_ratio}")
        if self.contrastive_temperature <= 0:
            raise ValueError(f"contrastive_temperature must be positive, got {self.contrastive_temperature}")
        if self.reconstruction_weight < 0 or self.contrastive_weight < 0:
            raise ValueError(
                "reconstruction_weight and contrastive_weight must not be negative, got "
                f"{self.reconstruction_weight} and {self.contrastive_weight}"
            )
        self.build_video_mask_generator()
