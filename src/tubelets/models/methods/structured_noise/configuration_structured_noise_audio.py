"""Configuration of the audio model: AudioMAE with ViT-B on AudioSet (structured_noise_masking.md, section 8)."""

from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, SpectrogramSpec
from tubelets.models.backbones.video_vit.configuration_video_vit import (
    MAX_DEPTH,
    MAX_VALUES,
    check_num_tokens,
)
from tubelets.models.common.configuration import RegisteredConfig

if TYPE_CHECKING:
    from tubelets.masking import NoiseMaskGenerator

POSITIVE = (
    "sampling_rate", "num_mel_bins", "max_length", "patch_size", "hidden_size", "num_hidden_layers",
    "num_attention_heads", "intermediate_size", "decoder_hidden_size", "decoder_num_hidden_layers",
    "decoder_num_attention_heads", "decoder_intermediate_size", "decoder_position_hidden_size", "gain_concentration",
)  # fmt: skip
SHARES = (
    "mask_ratio", "drop_path_rate", "head_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob",
    "decoder_position_dropout", "time_mask_ratio", "frequency_mask_ratio",
)  # fmt: skip

# Far above every published model: a crafted file must be refused before memory is allocated.
MAX_SIDE = 2**20


@strict
class StructuredNoiseAudioConfig(RegisteredConfig, PreTrainedConfig):
    r"""Sizes and constants of a masked autoencoder of log-mel spectrograms.

    Args:
        sampling_rate: samples per second of the waveform.
        num_mel_bins: mel bands of a spectrogram.
        max_length: frames of a spectrogram, 10 ms apart and 25 ms long; 1024 (AudioSet), 512 (ESC-50), 128 (Speech
            Commands), 992 (MaskSpec).
        spectrogram_mean: mean of the log-mel values; spectrograms are `(x - mean) / (2 * std)`.
        spectrogram_std: standard deviation of the log-mel values.
        patch_size: frames and bands of a patch; divides `max_length` and `num_mel_bins`.
        token_order: `time` numbers patches time step by time step (AudioMAE), `frequency` band by band (MaskSpec,
            CAV-MAE).
        hidden_size: width of the encoder, a multiple of 4 and of its heads.
        num_hidden_layers: its blocks.
        num_attention_heads: its heads.
        intermediate_size: width of its blocks' hidden layer.
        hidden_act: activation of all blocks.
        hidden_dropout_prob: dropout in blocks.
        attention_probs_dropout_prob: dropout of attention maps.
        layer_norm_eps: epsilon of every LayerNorm.
        drop_path_rate: stochastic depth of the last encoder block, in [0, 1); grows linearly from 0 at the first one.
        learned_positions: train the position tables, which start as sines and cosines.
        use_mean_pooling: True drops the final norm of the encoder, as the classifier does.
        decoder_type: `window` is AudioMAE's with shifted windows, `plain` attends to all tokens.
        decoder_hidden_size: width of the decoder, a multiple of 4 and of its heads.
        decoder_num_hidden_layers: its blocks; None is 16 with windows and 8 without.
        decoder_num_attention_heads: its heads.
        decoder_intermediate_size: width of its blocks' hidden layer.
        decoder_window_size: patches of a window in time and in frequency.
        decoder_window_shift: by how many patches every second block shifts its windows in time and in frequency.
        decoder_position_hidden_size: hidden width of the network that gives the bias between places of a window.
        decoder_position_dropout: dropout in that network.
        norm_pix_loss: standardise each patch of the target.
        mask_type: mask of pretraining: `regularized_blue`, the method's; `random`, `red2d`, `blue2d` or `green2d`.
        mask_ratio: share of masked patches in pretraining, in [0, 1).
        count_rule: `kept_floor` keeps int(N * (1 - ratio)) patches, `masked_floor` masks int(N * ratio).
        mask_options: further fields of `tubelets.masking.NoiseMaskGenerator`, such as `{"weights": [1.0, 0.5]}`.
        mask_bank: a prebuilt bank of masks, a folder or a Hub data set, see
            `tubelets.models.common.mask_banks`; None builds one from the options' seed when the first mask is drawn.
        roll_augmentation: what to roll in time by a random amount in pretraining: the `waveform` (AudioMAE), the
            `spectrogram` (CAV-MAE), or `none`.
        gain_augmentation: multiply the waveform by Beta(c, c) + 0.5 in pretraining.
        gain_concentration: c of the gain.
        noise_augmentation: add uniform noise to the normalised spectrogram in pretraining, of an amplitude that is
            itself uniform in [0, noise_augmentation].
        time_mask_ratio: share of time steps whose patches a classifier drops in training, in [0, 1).
        frequency_mask_ratio: share of bands whose patches it drops.
        head_dropout: dropout before the classifier, in [0, 1).
        head_init_scale: factor on the classifier's initial weights, whose deviation is 0.02.
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> config = StructuredNoiseAudioConfig()
        >>> config.audio_grid, config.build_mask_generator().num_masked, config.decoder_num_hidden_layers
        ((64, 8), 410, 16)
    """

    model_type = "structured_noise_audio"

    sampling_rate: int = 16000
    num_mel_bins: int = 128
    max_length: int = 1024
    spectrogram_mean: float | int = -4.2677393
    spectrogram_std: float | int = 4.5689974
    patch_size: int = 16
    token_order: Literal["time", "frequency"] = "time"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-6
    drop_path_rate: float | int = 0.0
    learned_positions: bool = False
    use_mean_pooling: bool = False
    decoder_type: Literal["window", "plain"] = "window"
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int | None = None
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    decoder_window_size: list[int] | tuple[int, ...] = (4, 4)
    decoder_window_shift: list[int] | tuple[int, ...] = (2, 0)
    decoder_position_hidden_size: int = 384
    decoder_position_dropout: float | int = 0.1
    norm_pix_loss: bool = True
    mask_type: Literal["regularized_blue", "random", "red2d", "blue2d", "green2d"] = "regularized_blue"
    mask_ratio: float | int = 0.8
    count_rule: Literal["kept_floor", "masked_floor"] = "kept_floor"
    mask_options: dict[str, Any] | None = None
    mask_bank: str | None = None
    roll_augmentation: Literal["waveform", "spectrogram", "none"] = "waveform"
    gain_augmentation: bool = True
    gain_concentration: int = 10
    noise_augmentation: float | int = 0.0
    time_mask_ratio: float | int = 0.0
    frequency_mask_ratio: float | int = 0.0
    head_dropout: float | int = 0.0
    head_init_scale: float | int = 0.001

    # The blocks are those of the masked-video base, which reads this name; biases of the keys are the blocks' own.
    qv_bias = True

    def __post_init__(self, **kwargs: object) -> None:
        """Resolve the depth that depends on the decoder."""
        if self.decoder_num_hidden_layers is None:
            self.decoder_num_hidden_layers = 16 if self.decoder_type == "window" else 8
        super().__post_init__(**kwargs)

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches in time and in frequency, the grid that masks are drawn on."""
        return self.max_length // self.patch_size, self.num_mel_bins // self.patch_size

    @property
    def num_audio_tokens(self) -> int:
        """Patches of a spectrogram, visible and masked."""
        time, bands = self.audio_grid
        return time * bands

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip, visible and masked; the class token is not counted."""
        return self.num_audio_tokens

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Spectrograms."""
        return {"input_values": SpectrogramSpec(self.sampling_rate, self.max_length, self.num_mel_bins)}

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Waveforms: the collator augments them and computes spectrograms."""
        return {"waveform": SpectrogramSpec(self.sampling_rate, self.max_length, self.num_mel_bins).waveform}

    @property
    def values_per_patch(self) -> int:
        """Values of a patch, e.g. 256."""
        return self.patch_size**2

    @property
    def num_values(self) -> int:
        """Approximate number of values in the largest model of this configuration."""
        encoder = _block_values(self.hidden_size, self.intermediate_size) * self.num_hidden_layers
        depth = self.decoder_num_hidden_layers or 0
        decoder = _block_values(self.decoder_hidden_size, self.decoder_intermediate_size) * depth
        ends = self.values_per_patch + self.num_tokens
        return encoder + decoder + self.hidden_size * (ends + self.num_labels) + self.decoder_hidden_size * ends

    def build_mask_generator(self) -> "NoiseMaskGenerator":
        """The generator of the audio masks, `(time, frequency)` and time-major for either `token_order`."""
        return build_noise_masks(self.mask_type, self.audio_grid, self.mask_ratio, self.count_rule, self.mask_options)

    def validate_sizes(self) -> None:
        """Reject sizes that do not tile, or are beyond any published model."""
        for name in POSITIVE:
            if not 1 <= getattr(self, name) <= MAX_SIDE:
                raise ValueError(f"{name} must lie in [1, {MAX_SIDE}], got {getattr(self, name)}")
        for name in ("max_length", "num_mel_bins"):
            if getattr(self, name) % self.patch_size:
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of patch_size={self.patch_size}")
        for part in ("", "decoder_"):
            width, heads = getattr(self, f"{part}hidden_size"), getattr(self, f"{part}num_attention_heads")
            if width % heads or width % 4:
                raise ValueError(
                    f"{part}hidden_size={width} must be a multiple of {part}num_attention_heads={heads} and of 4"
                )
        for name in ("num_hidden_layers", "decoder_num_hidden_layers"):
            if getattr(self, name) > MAX_DEPTH:
                raise ValueError(f"{name} must be at most {MAX_DEPTH}, got {getattr(self, name)}")
        check_num_tokens(self.num_tokens)
        if self.num_values > MAX_VALUES:
            raise ValueError(
                f"a model of these sizes would hold about {self.num_values:.3g} values, more than {MAX_VALUES:.3g}; "
                f"check hidden_size={self.hidden_size}, max_length={self.max_length} and the decoder's sizes"
            )

    def validate_windows(self) -> None:
        """Reject windows that do not tile the grid of the decoder."""
        if self.decoder_type != "window":
            return
        for name, low in (("decoder_window_size", 1), ("decoder_window_shift", 0)):
            if len(getattr(self, name)) != 2 or min(getattr(self, name)) < low:
                raise ValueError(f"{name} must be two integers (time, frequency) >= {low}, got {getattr(self, name)}")
        for side, window in zip(self.audio_grid, self.decoder_window_size, strict=True):
            if side % min(side, window):
                raise ValueError(
                    f"decoder_window_size={self.decoder_window_size} does not tile the grid {self.audio_grid} of "
                    "patches; choose divisors, or decoder_type='plain'"
                )
        if any(shift >= size for shift, size in zip(self.decoder_window_shift, self.decoder_window_size, strict=True)):
            raise ValueError(
                f"decoder_window_shift={self.decoder_window_shift} must be smaller than "
                f"decoder_window_size={self.decoder_window_size}"
            )

    def validate_ranges(self) -> None:
        """Reject ratios and activations outside their range, and masks that the generator does not support."""
        # Imports a thousand modules; `import tubelets` does not need them.
        from transformers.activations import ACT2FN

        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act must be one of {', '.join(sorted(ACT2FN))}, got {self.hidden_act!r}")
        if self.spectrogram_std <= 0 or self.noise_augmentation < 0:
            raise ValueError(
                "spectrogram_std must be positive and noise_augmentation not negative, got "
                f"{self.spectrogram_std} and {self.noise_augmentation}"
            )
        self.build_mask_generator()

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: the code is an installed package and is never copied next to a checkpoint."""


def build_noise_masks(
    kind: str, grid: tuple[int, ...], mask_ratio: float, count_rule: str, options: dict[str, Any] | None
) -> "NoiseMaskGenerator":
    """The mask generator of a configuration's fields.

    Args:
        kind: a kind of `NoiseMaskGenerator`.
        grid: `(time, frequency)` or `(time, rows, columns)`.
        mask_ratio: share of masked tokens.
        count_rule: rule of the count.
        options: further fields; lists, as files have them, become tuples.

    Returns:
        The generator.

    Raises:
        ValueError: if an option is unknown or out of range.

    Example:
        >>> build_noise_masks("random", (4, 2), 0.5, "kept_floor", None)(1).sum()
        tensor(4)
    """
    from tubelets.masking import NoiseMaskGenerator

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in (options or {}).items()}
    # Only regularised blue noise is drawn over two axes; other kinds use a grid with one time slot.
    full = grid if len(grid) == 3 or kind == "regularized_blue" else (1, *grid)
    if len(full) == 3:
        sides = zip(full, NoiseMaskGenerator.volume_shape, strict=True)
        given.setdefault("volume_shape", tuple(max(side, usual) for side, usual in sides))
    try:
        return NoiseMaskGenerator(kind, full, mask_ratio, count_rule=count_rule, **given)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"masks of {kind} noise do not accept the options {options}: {error}") from error


def _block_values(width: int, intermediate: int) -> int:
    return 4 * width**2 + 2 * width * intermediate
