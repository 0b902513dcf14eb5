"""The fields that the layers of the spectrogram ViT read of a configuration."""

from typing import Protocol


class AudioVitSizes(Protocol):
    """A configuration of a model with a spectrogram ViT.

    Attributes:
        sampling_rate: samples per second of the waveform.
        max_length: time frames of a spectrogram.
        num_mel_bins: mel bands of a spectrogram.
        spectrogram_mean: mean of the log-mel values.
        spectrogram_std: standard deviation of the log-mel values; spectrograms are `(x - mean) / (2 * std)`.
        patch_size: frames and bands of a patch.
        token_order: "time" numbers patches time step by time step, "frequency" band by band.
        hidden_size: width of a token.
        num_hidden_layers: blocks.
        drop_path_rate: stochastic depth of the last block.
        learned_positions: whether the position tables are trained.
    """

    sampling_rate: int
    max_length: int
    num_mel_bins: int
    spectrogram_mean: float
    spectrogram_std: float
    patch_size: int
    token_order: str
    hidden_size: int
    num_hidden_layers: int
    drop_path_rate: float
    learned_positions: bool

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches in time and in frequency."""

    @property
    def values_per_patch(self) -> int:
        """Values of a patch."""
