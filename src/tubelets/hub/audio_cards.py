"""What the cards of networks that hear say about their inputs; the others are in `tubelets.hub.cards`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AudioCard:
    """Parts of a card that depend on what a network takes.

    Attributes:
        use: the snippet.
        outputs: what comes out, in words.
        settings: lines of the card's table.
        tags: tags of the modalities.
        pipeline_tag: the Hub's name of the task.
    """

    use: str
    outputs: str
    settings: dict[str, Any]
    tags: list[str]
    pipeline_tag: str


def hears(config: Any) -> bool:
    """Whether a configuration is of a network that takes sounds."""
    return hasattr(config, "audio_grid")


def audio_card(config: Any, repository: str, auto_class: str) -> AudioCard:
    """Describe the inputs of an audio or audio-visual network.

    Args:
        config: its configuration.
        repository: what the snippet loads.
        auto_class: Auto class that loads it.

    Returns:
        The parts of the card.

    Example:
        >>> from tubelets import StructuredNoiseAudioConfig
        >>> card = audio_card(StructuredNoiseAudioConfig(), "you/model", "AutoModel")
        >>> card.outputs
        '`outputs.last_hidden_state` is `(1, 513, 768)`, the class token first.'
    """
    sees = hasattr(config, "image_size")
    processor = "AutoProcessor" if sees else "AutoFeatureExtractor"
    frames = f'clip = tubelets.read_clip("clip.mp4", num_frames={config.num_frames}, stride=1)\n' if sees else ""
    use = (
        f"import tubelets\nfrom scipy.io import wavfile\nfrom transformers import {processor}, {auto_class}\n\n"
        f'model = {auto_class}.from_pretrained("{repository}")\n'
        f'processor = {processor}.from_pretrained("{repository}")\n'
        f'rate, samples = wavfile.read("sound.wav")  # 16 bit, one channel, {config.sampling_rate} Hz\n'
        f"{frames}"
        f'inputs = processor(samples / 32768, {"clip, " if sees else ""}sampling_rate=rate, return_tensors="pt")\n'
        "outputs = model(**inputs)"
    )
    tokens = config.num_tokens if sees else 1 + config.num_tokens
    order = "sound first" if sees else "the class token first"
    settings: dict[str, Any] = {
        "encoder": f"width {config.hidden_size}, {config.num_hidden_layers} layers"
        + (f" of each modality and {config.num_shared_layers} shared" if sees else "")
        + f", {config.num_attention_heads} heads",
        "sound": f"{config.max_length} frames of {config.num_mel_bins} mel bands, {config.sampling_rate} Hz, patches "
        f"of {config.patch_size} x {config.patch_size}, numbered by {config.token_order}",
        "mean, std of spectrograms": f"{config.spectrogram_mean}, {config.spectrogram_std} (halved again)",
    }
    if sees:
        size = "{} x {}".format(*config.image_height_width)
        settings["frames"] = f"{config.num_frames} of {size}"
        settings["mean, std of colours"] = f"{tuple(config.image_mean)}, {tuple(config.image_std)}"
    return AudioCard(
        use=use,
        outputs=f"`outputs.last_hidden_state` is `(1, {tokens}, {config.hidden_size})`, {order}.",
        settings=settings,
        tags=["audio", "video"] if sees else ["audio"],
        pipeline_tag="video-classification" if sees else "audio-classification",
    )
