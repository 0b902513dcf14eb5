"""Inputs of the audio and audio-visual models: the inference processor, and the collators of pretraining."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.masking.noise_masks import NOISE_TYPES
from tubelets.models.backbones.audio_vit.filterbanks import feature_extractor, spectrogram
from tubelets.models.backbones.audio_vit.spectrograms import to_token_order
from tubelets.models.backbones.video_vit.processing_video_vit import video_processor
from tubelets.models.common.mask_banks import load_mask_bank
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig,
)


class StructuredNoiseAudioVideoProcessor(ProcessorMixin):
    """Waveforms and frames to the inputs of an audio-visual model, with a feature extractor and a video processor.

    Args:
        feature_extractor: computes spectrograms.
        video_processor: resizes, crops and normalises frames.
    """

    def __init__(self, feature_extractor: Any = None, video_processor: Any = None, **kwargs: Any) -> None:
        super().__init__(feature_extractor, video_processor, **kwargs)

    def __call__(  # type: ignore[override]
        self,
        audio: Any = None,
        videos: Any = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Process sounds, videos, or both.

        Args:
            audio: a waveform `(samples,)`, or a list of them.
            videos: a video `(frames, channels, height, width)`, or a list of them.
            sampling_rate: of the waveforms; must be the model's.
            return_tensors: `pt` for tensors.
            **kwargs: passed to the video processor.

        Returns:
            `input_values`, `pixel_values`, or both.

        Raises:
            ValueError: if neither is given, or the sampling rate is not the model's.
        """
        if audio is None and videos is None:
            raise ValueError("audio and videos are both None; give waveforms, videos, or both")
        batch: dict[str, Any] = {}
        if audio is not None:
            heard = self.feature_extractor(audio, sampling_rate=sampling_rate, return_tensors=return_tensors)
            batch["input_values"] = heard["input_values"]
        if videos is not None:
            seen = self.video_processor(videos, return_tensors=return_tensors, **kwargs)
            batch["pixel_values"] = seen["pixel_values_videos" if "pixel_values_videos" in seen else "pixel_values"]
        return BatchFeature(batch)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the returned tensors."""
        return ["input_values", "pixel_values"]


def audio_video_processor(config: StructuredNoiseAudioVideoConfig) -> StructuredNoiseAudioVideoProcessor:
    """The inference processor of an audio-visual configuration.

    Args:
        config: rate, sizes and statistics.

    Returns:
        A processor whose `pixel_values` are float `(B, frames, channels, height, width)`.

    Example:
        >>> config = StructuredNoiseAudioVideoConfig(max_length=32, image_size=32)
        >>> processor = audio_video_processor(config)
        >>> frame = torch.zeros(1, 3, 48, 64, dtype=torch.uint8)
        >>> batch = processor(torch.zeros(16000).numpy(), frame, sampling_rate=16000, return_tensors="pt")
        >>> batch["input_values"].shape, batch["pixel_values"].shape
        (torch.Size([1, 32, 128]), torch.Size([1, 1, 3, 32, 32]))
    """
    return StructuredNoiseAudioVideoProcessor(feature_extractor(config), video_processor(config))  # type: ignore[arg-type]


class SpectrogramAugmentation:
    """Sounds to normalised spectrograms, with the configured roll, gain and noise of pretraining.

    Args:
        config: rate, sizes, statistics and augmentations.

    Example:
        >>> augment = SpectrogramAugmentation(StructuredNoiseAudioConfig(max_length=64))
        >>> augment(torch.zeros(8000), torch.Generator().manual_seed(0)).shape
        torch.Size([64, 128])
    """

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        self.config = config
        gain = config.gain_concentration if config.gain_augmentation else 0
        self.augment = SoundAugmentation(config.roll_augmentation, gain, config.noise_augmentation)

    def __call__(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """The augmented spectrogram.

        Args:
            waveform: float `(samples,)` at the configured rate.
            generator: source of the draw.

        Returns:
            float32 `(max_length, num_mel_bins)`.
        """
        values = spectrogram(self.augment.waveform(waveform, generator), self.config)
        return self.augment.spectrogram(values, generator)


def _masks(config: Any, part: str = "") -> Any:
    """Build the generator of a configuration's audio masks, or video masks for `part="video"`, with its bank.

    The bank is built before data-loader workers start; otherwise each worker would build its own.
    """
    generator = getattr(config, f"build_{part}_mask_generator" if part else "build_mask_generator")()
    prefix = f"{part}_" if part else ""
    source = getattr(config, f"{prefix}mask_bank")
    if source is None:
        if generator.kind in NOISE_TYPES:
            _ = generator.bank
        return generator
    options = {"count_rule": config.count_rule, **(getattr(config, f"{prefix}mask_options") or {})}
    if generator.kind == "regularized_blue":
        # A bank of these masks states its own rule and cannot serve another.
        options.pop("count_rule")
    bank = load_mask_bank(source, generator.grid, generator.mask_ratio, **options)
    if bank.kind != generator.kind or bank.num_masked != generator.num_masked:
        raise ValueError(
            f"{prefix}mask_bank={source!r} holds {bank.kind} with {bank.num_masked} masked tokens, not "
            f"{generator.kind} with {generator.num_masked}; choose or make another bank"
        )
    return bank


class AudioCollator:
    """Batch of masked-audio pretraining from the items of a clip stream.

    A clip's mask and augmentation are drawn from the clip's own seed. They depend neither on the batch nor on the
    process or worker.

    Args:
        config: rate, sizes, statistics, augmentations and masks.

    Example:
        >>> options = {"bank_size": 2}
        >>> collate = AudioCollator(StructuredNoiseAudioConfig(max_length=64, mask_options=options))
        >>> batch = collate([{"waveform": torch.zeros(16000), "seed": 1}])
        >>> batch["input_values"].shape, batch["bool_masked_pos"].shape, batch["num_masked"]
        (torch.Size([1, 64, 128]), torch.Size([1, 32]), 26)
    """

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        self.config = config
        self.augment = SpectrogramAugmentation(config)
        self.mask_generator = _masks(config)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Compute spectrograms and draw masks.

        Args:
            items: mappings with `waveform`, float `(samples,)`, and `seed`, an integer.

        Returns:
            `input_values` float32 `(B, max_length, num_mel_bins)`, `bool_masked_pos` bool `(B, tokens)` in token order
            with True = masked, and `num_masked`: the arguments of the pretraining model.
        """
        generators = [torch.Generator().manual_seed(int(item["seed"])) for item in items]
        masks = self.mask_generator(len(items), generator=generators)
        values = [self.augment(item["waveform"], each) for item, each in zip(items, generators, strict=True)]
        return {
            "input_values": torch.stack(values),
            "bool_masked_pos": to_token_order(masks, self.config),
            "num_masked": self.mask_generator.num_masked,
        }


class AudioVideoCollator:
    """Batch of audio-visual pretraining from the items of a clip stream; see `AudioCollator`.

    Args:
        config: rate, sizes, statistics, augmentations and masks.

    Example:
        >>> sizes = {"max_length": 64, "image_size": 32, "mask_options": {"bank_size": 2}}
        >>> collate = AudioVideoCollator(StructuredNoiseAudioVideoConfig(**sizes))
        >>> frame = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> batch = collate([{"waveform": torch.zeros(16000), "pixel_values": frame, "seed": 1}])
        >>> batch["audio_bool_masked_pos"].shape, batch["video_bool_masked_pos"].shape
        (torch.Size([1, 32]), torch.Size([1, 4]))
    """

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        self.collate_audio = AudioCollator(config)
        self.video_masks = _masks(config, "video")

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Compute spectrograms, stack frames and draw both masks independently.

        Args:
            items: mappings with `waveform`, float `(samples,)`, `pixel_values`, uint8 `(frames, channels, height,
                width)`, and `seed`, an integer.

        Returns:
            `input_values`, `pixel_values` uint8 `(B, frames, channels, height, width)`, `audio_bool_masked_pos` and
            `video_bool_masked_pos`, and the two counts: the arguments of the pretraining model.
        """
        audio = self.collate_audio(items)
        # The two masks of a clip must be independent.
        generators = [torch.Generator().manual_seed(int(item["seed"]) ^ 0x5EED) for item in items]
        return {
            "input_values": audio["input_values"],
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "audio_bool_masked_pos": audio["bool_masked_pos"],
            "video_bool_masked_pos": self.video_masks(len(items), generator=generators),
            "num_masked_audio": audio["num_masked"],
            "num_masked_video": self.video_masks.num_masked,
        }
