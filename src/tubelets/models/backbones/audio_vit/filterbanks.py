"""Log-mel filterbanks as in Kaldi, for any sampling rate, and the feature extractor built on them."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ASTFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from tubelets.data.modalities.specs import HOP_SECONDS, WINDOW_SECONDS
from tubelets.models.backbones.audio_vit.sizes import AudioVitSizes

LOWEST_FREQUENCY = 20.0
PREEMPHASIS = 0.97
FLOOR = 1.1920928955078125e-07  # float32's epsilon, the smallest power


@functools.lru_cache(maxsize=8)
def _filters(sampling_rate: int, num_mel_bins: int, fft_length: int) -> tuple[Tensor, Tensor]:
    """Mel filters `(frequencies, bands)` and the window `(samples of a frame,)`."""
    filters = mel_filter_bank(
        num_frequency_bins=fft_length // 2 + 1,
        num_mel_filters=num_mel_bins,
        min_frequency=LOWEST_FREQUENCY,
        max_frequency=sampling_rate // 2,
        sampling_rate=sampling_rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    window = torch.hann_window(round(WINDOW_SECONDS * sampling_rate), periodic=False)
    return torch.from_numpy(filters).float(), window


def log_mel_filterbank(waveform: Tensor, sampling_rate: int = 16000, num_mel_bins: int = 128) -> Tensor:
    """Kaldi's log-mel filterbank of a sound: 25 ms Hann windows every 10 ms, no energy, no dither.

    Args:
        waveform: float `(samples,)`; its mean is subtracted.
        sampling_rate: samples per second.
        num_mel_bins: bands from 20 Hz to half the sampling rate.

    Returns:
        float32 `(frames, num_mel_bins)` with `1 + (samples - window) // hop` frames; a sound shorter than a window is
        padded with silence to one frame.

    Raises:
        ValueError: if the waveform is not float with one channel.

    Example:
        >>> log_mel_filterbank(torch.zeros(16000)).shape
        torch.Size([98, 128])
    """
    if waveform.ndim != 1 or not waveform.is_floating_point() or not len(waveform):
        raise ValueError(
            f"waveform must be float (samples,), one channel, got {waveform.dtype} {tuple(waveform.shape)}"
        )
    length, hop = round(WINDOW_SECONDS * sampling_rate), round(HOP_SECONDS * sampling_rate)
    fft_length = 2 ** (length - 1).bit_length()
    filters, window = _filters(sampling_rate, num_mel_bins, fft_length)
    waveform = waveform.float() - waveform.float().mean()
    frames = F.pad(waveform, (0, max(length - len(waveform), 0))).unfold(0, length, hop)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    power = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=fft_length).abs().square()
    # Spectrograms computed under autocast must keep full precision.
    with torch.autocast(power.device.type, enabled=False):
        return (power @ filters).clamp(min=FLOOR).log()


def fit_length(features: Tensor, max_length: int) -> Tensor:
    """Cut a filterbank `(frames, bands)` to `max_length` frames, or pad it with zeros as the official codes do.

    Example:
        >>> fit_length(torch.ones(2, 1), 3)[:, 0]
        tensor([1., 1., 0.])
    """
    return F.pad(features[:max_length], (0, 0, 0, max(max_length - len(features), 0)))


class FilterbankFeatureExtractor(ASTFeatureExtractor):
    """The Audio Spectrogram Transformer's feature extractor for any sampling rate, computed with PyTorch.

    The stock extractor uses the windows of 16 kHz for every rate. It computes with torchaudio if that is installed, or
    with NumPy, which is several times slower. At 16 kHz the results are the same.

    Example:
        >>> extract = FilterbankFeatureExtractor(max_length=128)
        >>> extract(np.zeros(16000, dtype=np.float32), sampling_rate=16000, return_tensors="pt").input_values.shape
        torch.Size([1, 128, 128])
    """

    def _extract_fbank_features(self, waveform: np.ndarray, max_length: int) -> np.ndarray:
        sound = torch.as_tensor(waveform, dtype=torch.float32)
        return fit_length(log_mel_filterbank(sound, self.sampling_rate, self.num_mel_bins), max_length).numpy()


def feature_extractor(config: AudioVitSizes) -> FilterbankFeatureExtractor:
    """The inference processor of a configuration: waveforms to normalised spectrograms.

    Args:
        config: rate, sizes and statistics.

    Returns:
        A processor whose `input_values` are float `(B, max_length, num_mel_bins)`.
    """
    return FilterbankFeatureExtractor(
        sampling_rate=config.sampling_rate,
        num_mel_bins=config.num_mel_bins,
        max_length=config.max_length,
        mean=config.spectrogram_mean,
        std=config.spectrogram_std,
    )


def spectrogram(waveform: Tensor, config: AudioVitSizes) -> Tensor:
    """Compute the normalised spectrogram of one sound, as the feature extractor does.

    Args:
        waveform: float `(samples,)`.
        config: rate, sizes and statistics.

    Returns:
        float32 `(max_length, num_mel_bins)`.

    Example:
        >>> from tubelets import StructuredNoiseAudioConfig
        >>> config = StructuredNoiseAudioConfig(max_length=64)
        >>> spectrogram(torch.zeros(16000), config).shape
        torch.Size([64, 128])
    """
    features = fit_length(log_mel_filterbank(waveform, config.sampling_rate, config.num_mel_bins), config.max_length)
    return (features - config.spectrogram_mean) / (2 * config.spectrogram_std)
