"""Configuration of the masked-video base: VideoMAE with the official constants (sigma.md, sections 2, 6 and 7)."""

import math
from dataclasses import fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.models.videomae.configuration_videomae import VideoMAEConfig

from tubelets.data.modalities.specs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, VideoSpec
from tubelets.models.common.configuration import RegisteredConfig

POSITIVE = (
    "num_frames", "tubelet_size", "num_channels", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "intermediate_size", "decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads",
    "decoder_intermediate_size",
)  # fmt: skip

# Fields of pretraining, which methods of the family do not share.
OBJECTIVE = {"mask_type", "mask_options", "mask_bank", "mask_ratio", "norm_pix_loss"}

# Far above every published model: a crafted file must be refused before memory is allocated.
MAX_DEPTH = 1024
MAX_VALUES = 2**33
MAX_TOKENS = 2**20


@strict
class TubeletsVideoMAEConfig(RegisteredConfig, VideoMAEConfig):
    r"""Sizes and constants of a masked video autoencoder; the defaults are ViT-B/16 on 16 frames of 224 x 224 pixels.

    Extends `transformers.VideoMAEConfig`, whose fields keep their names and meaning. Where the defaults of transformers
    differ from the official code (LayerNorm epsilon, final norm), ours are the official ones.

    Args:
        image_size: height and width of the frames in pixels, one integer or a pair.
        patch_size: height and width of a tube in pixels, one integer or a pair; divides `image_size`.
        num_frames: frames in a clip; a multiple of `tubelet_size`.
        tubelet_size: frames in a tube.
        layer_norm_eps: epsilon of every LayerNorm.
        use_mean_pooling: True drops the final norm of the encoder, as the classifier does; False keeps it, as
            pretraining and feature extraction do.
        norm_pix_loss: standardise pixel targets per tube and colour channel.
        mask_type: mask of pretraining, a name of `tubelets.masking.MASK_TYPES`.
        mask_options: further fields of the mask generator, for coloured noise those of
            `tubelets.masking.NoiseMaskGenerator`, such as `{"sigma_low": 0.5, "sigma_high": 2.0}`.
        mask_bank: a prebuilt bank of coloured noise, a folder or a Hub data set, see
            `tubelets.models.common.mask_banks`; None builds one from the options' seed when the first mask is drawn.
        mask_ratio: share of masked tokens in pretraining, in [0, 1).
        drop_path_rate: stochastic depth of the last encoder block, in [0, 1); grows linearly from 0 at the first one.
        head_dropout: dropout before the classifier, in [0, 1).
        head_init_scale: factor on the classifier's initial weights.
        position_grid: rows and columns of the table of positions, which is interpolated to those of the frames; None is
            the frames' own. `from_pretrained` sets it for frames of another size than the checkpoint's.
        image_mean: mean of each colour channel, on the scale [0, 1].
        image_std: standard deviation of each colour channel, on the scale [0, 1].
        **kwargs: every other field of `transformers.VideoMAEConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4)
        >>> config.grid, config.num_tokens
        ((2, 2, 2), 8)
    """

    model_type = "tubelets_videomae"

    layer_norm_eps: float = 1e-6
    use_mean_pooling: bool = False
    mask_type: Literal["tube", "random", "red2d", "blue2d", "green2d", "red3d", "blue3d", "green3d"] = "tube"
    mask_options: dict[str, Any] | None = None
    mask_bank: str | None = None
    mask_ratio: float | int = 0.9
    drop_path_rate: float | int = 0.0
    head_dropout: float | int = 0.0
    head_init_scale: float | int = 0.001
    position_grid: list[int] | tuple[int, ...] | None = None
    image_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    image_std: list[float] | tuple[float, ...] = IMAGENET_STD

    @classmethod
    def accepted_model_types(cls) -> set[str]:
        """Methods on this encoder read each other's checkpoints, and those of stock VideoMAE."""
        from tubelets.models.common.auto import MODELS

        family = {
            name for name, entry in MODELS.items() if issubclass(entry.load(entry.config), TubeletsVideoMAEConfig)
        }
        return {*family, cls.model_type, VideoMAEConfig.model_type}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build the configuration; from other methods of the family, only the sizes of encoder and decoder are used.

        Args:
            config_dict: the content of a `config.json`.
            **kwargs: see `RegisteredConfig.from_dict`.

        Returns:
            The configuration and, if requested, the unused keywords.

        Raises:
            tubelets.models.common.errors.CheckpointLayoutError: if the file is of another family.
            tubelets.models.common.errors.UnsafeCheckpointError: if it overwrites more than fields.
            huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.
        """
        from tubelets.models.common.file_checks import check_config_file

        check_config_file(config_dict, cls, cls.accepted_model_types())
        if config_dict.get("model_type") in {*cls.accepted_model_types()} - {cls.model_type, VideoMAEConfig.model_type}:
            # Targets and masks are method-specific: SMILE's "trajectory" is not a mask of SIGMA.
            shared = {entry.name for entry in fields(TubeletsVideoMAEConfig)} - OBJECTIVE
            config_dict = {name: value for name, value in config_dict.items() if name in shared | {"model_type"}}
        return super().from_dict(config_dict, **kwargs)

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames."""
        statistics = tuple(self.image_mean), tuple(self.image_std)
        return {"pixel_values": VideoSpec(self.num_frames, self.image_height_width, self.num_channels, *statistics)}

    @property
    def grid(self) -> tuple[int, int, int]:
        """Token grid `(time, rows, columns)`."""
        height, width = _pair(self.image_size)
        patch_height, patch_width = _pair(self.patch_size)
        return self.num_frames // self.tubelet_size, height // patch_height, width // patch_width

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return _pair(self.image_size)

    @property
    def position_rows_columns(self) -> tuple[int, int]:
        """Rows and columns of the table of positions before it is interpolated."""
        rows, columns = self.position_grid or self.grid[1:]
        return rows, columns

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip, visible and masked."""
        time, rows, columns = self.grid
        return time * rows * columns

    @property
    def pixels_per_tube(self) -> int:
        """Values of a tube: frames x height x width x channels, e.g. 2 * 16 * 16 * 3 = 1536."""
        patch_height, patch_width = _pair(self.patch_size)
        return self.num_channels * self.tubelet_size * patch_height * patch_width

    @property
    def prediction_size(self) -> int:
        """Width of the decoder's output: the pixels of a tube."""
        return self.pixels_per_tube

    @property
    def num_masked(self) -> int:
        """Masked tokens of a clip in pretraining, the `num_masked` of the mask generator."""
        # Imported lazily: masks need torch and SciPy, a configuration alone does not.
        from tubelets.masking import VIDEO_NOISE
        from tubelets.masking.noise_masks import count_visible

        time, rows, columns = self.grid
        if self.mask_type in VIDEO_NOISE:
            rule = (self.mask_options or {}).get("count_rule", "masked_floor")
            return time * (rows * columns - count_visible(rows * columns, self.mask_ratio, rule))
        # Multiply in the generators' order, because rounding depends on it.
        if self.mask_type == "random":
            return int(self.mask_ratio * time * rows * columns)
        return time * int(self.mask_ratio * rows * columns)

    def build_mask_generator(self) -> Any:
        """The mask generator of pretraining; its `num_masked` is the number of masked tokens of every clip."""
        # Imported lazily: masks need torch and SciPy, a configuration alone does not.
        from tubelets.masking import build_mask_generator

        # A configuration read from a file has lists instead of tuples.
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (self.mask_options or {}).items()
        }
        return build_mask_generator(self.mask_type, self.grid, self.mask_ratio, **options)

    def validate_geometry(self) -> None:
        """Reject sizes that are not multiples: frames of tubelets, pixels of patches, widths of attention heads."""
        for name in ("image_size", "patch_size"):
            sides = _pair(getattr(self, name))
            if len(sides) != 2 or min(sides) < 1:
                raise ValueError(f"{name} must be a positive integer or a pair of them, got {getattr(self, name)}")
        for name in POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.position_grid is not None and (len(self.position_grid) != 2 or min(self.position_grid) < 1):
            raise ValueError(f"position_grid must be positive rows and columns, got {self.position_grid}")
        if self.num_frames % self.tubelet_size:
            raise ValueError(f"num_frames={self.num_frames} must be a multiple of tubelet_size={self.tubelet_size}")
        for side, patch in zip(_pair(self.image_size), _pair(self.patch_size), strict=True):
            if side % patch:
                raise ValueError(f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.decoder_hidden_size % self.decoder_num_attention_heads:
            raise ValueError(
                f"decoder_hidden_size={self.decoder_hidden_size} must be a multiple of "
                f"decoder_num_attention_heads={self.decoder_num_attention_heads}"
            )

    @property
    def num_values(self) -> int:
        """Approximate number of values in the largest model of this configuration, position tables included."""
        height, width = _pair(self.image_size)
        patch_height, patch_width = _pair(self.patch_size)
        patches = (height * width) // max(patch_height * patch_width, 1)
        patches = max(patches, math.prod(self.position_grid or ()))
        tubes = self.num_frames * patches // max(self.tubelet_size, 1)
        encoder = _block_values(self.hidden_size, self.intermediate_size) * self.num_hidden_layers
        decoder = (
            _block_values(self.decoder_hidden_size, self.decoder_intermediate_size) * self.decoder_num_hidden_layers
        )
        ends = self.pixels_per_tube + self.num_labels + tubes
        return encoder + decoder + self.hidden_size * ends + self.decoder_hidden_size * (self.pixels_per_tube + tubes)

    def validate_masks(self) -> None:
        """Reject options that the mask generator does not accept."""
        if self.mask_options:
            self.build_mask_generator()

    def validate_limits(self) -> None:
        """Reject sizes beyond any published model: configurations may come from untrusted files."""
        for name in ("num_hidden_layers", "decoder_num_hidden_layers"):
            if getattr(self, name) > MAX_DEPTH:
                raise ValueError(f"{name} must be at most {MAX_DEPTH}, got {getattr(self, name)}")
        check_num_tokens(self.num_tokens)
        if self.num_values > MAX_VALUES:
            raise ValueError(
                f"a model of these sizes would hold about {self.num_values:.3g} values, more than {MAX_VALUES:.3g}; "
                f"check hidden_size={self.hidden_size}, intermediate_size={self.intermediate_size}, "
                f"image_size={self.image_size}, num_frames={self.num_frames} and the decoder's sizes"
            )

    def validate_ranges(self) -> None:
        """Reject ratios, activations and channel statistics outside their range."""
        # Imported lazily: it loads a thousand modules that `import tubelets` does not need.
        from transformers.activations import ACT2FN

        for name in ("mask_ratio", "drop_path_rate", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}")
        if min(self.image_std, default=1) <= 0:
            raise ValueError(f"image_std must be positive, got {self.image_std}")
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(f"{name} needs {self.num_channels} values, one per channel, got {getattr(self, name)}")

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: the code is an installed package and is never copied next to a checkpoint."""


def check_num_tokens(number: int) -> None:
    """Reject a clip of more tokens than any published model has.

    Args:
        number: tokens of a clip.

    Raises:
        ValueError: if there are too many.
    """
    if number > MAX_TOKENS:
        raise ValueError(
            f"a clip would have {number} tokens, more than {MAX_TOKENS}; choose fewer frames, smaller ones or larger "
            "patches"
        )


def _pair(side: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else tuple(side)  # type: ignore[return-value]


def _block_values(width: int, intermediate: int) -> int:
    return 4 * width**2 + 2 * width * intermediate
