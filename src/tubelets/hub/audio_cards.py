"""What the cards of networks that hear say about their inputs; the others are in `tubelets.hub.cards`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The Audio Spectrogram Transformer's configuration does not tell its rate.
USUAL_RATE = 16000


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

    @property
    def noun(self) -> str:
        """What a clip is called."""
        return "videos" if "video" in self.tags else "sounds"


def hears(config: Any) -> bool:
    """Whether a configuration is of a network that takes spectrograms."""
    return hasattr(config, "num_mel_bins")


def modality_of(config: Any, classifier: bool) -> str:
    """What a network is given: `both`, `audio` or `video`.

    Args:
        config: its configuration.
        classifier: whether it classifies; encoders of sound and frames take both.

    Returns:
        The word.
    """
    if not hasattr(config, "image_size"):
        return "audio"
    return config.modality if classifier else "both"


def classifier_auto_class(config: Any) -> str:
    """The Auto class that a card's snippet loads a classifier with; one class of sound and frames is known to two.

    Args:
        config: its configuration.

    Returns:
        Its name.
    """
    hearing = hears(config) and modality_of(config, classifier=True) == "audio"
    return "AutoModelForAudioClassification" if hearing else "AutoModelForVideoClassification"


def describe(modalities: Sequence[str]) -> str:
    """The adjective of a network of some modalities: `video`, `audio` or `audio-visual`."""
    return "audio-visual" if len(modalities) > 1 else modalities[0]


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
        >>> audio_card(StructuredNoiseAudioConfig(num_labels=3), "me/x", "AutoModelForAudioClassification").outputs
        '`outputs.logits` has one score for each of 3 classes; `model.config.id2label` names them.'
    """
    classifier = auto_class.endswith("Classification")
    modality = modality_of(config, classifier)
    return AudioCard(
        use=_snippet(config, repository, auto_class, modality),
        outputs=_classes(config) if classifier else _tokens(config),
        settings=_settings(config),
        tags={"audio": ["audio"], "video": ["video"], "both": ["audio", "video"]}[modality],
        pipeline_tag="audio-classification" if modality == "audio" else "video-classification",
    )


def _snippet(config: Any, repository: str, auto_class: str, modality: str) -> str:
    sees, rate = hasattr(config, "image_size"), getattr(config, "sampling_rate", USUAL_RATE)
    processor = "AutoProcessor" if sees else "AutoFeatureExtractor"
    given = {"audio": ["samples / 32768"], "video": ["videos=clip"], "both": ["samples / 32768", "clip"]}[modality]
    lines = ["import tubelets"]
    if modality != "video":
        lines.append("from scipy.io import wavfile")
        given.append("sampling_rate=rate")
    lines += [
        f"from transformers import {processor}, {auto_class}\n",
        f'model = {auto_class}.from_pretrained("{repository}")',
        f'processor = {processor}.from_pretrained("{repository}")',
    ]
    if modality != "video":
        lines.append(f'rate, samples = wavfile.read("sound.wav")  # 16 bit, one channel, {rate} Hz')
    if modality != "audio":
        lines.append(f'clip = tubelets.read_clip("clip.mp4", num_frames={config.num_frames}, stride=1)')
    lines += [f'inputs = processor({", ".join(given)}, return_tensors="pt")', "outputs = model(**inputs)"]
    return "\n".join(lines)


def _classes(config: Any) -> str:
    return (
        f"`outputs.logits` has one score for each of {config.num_labels} classes; `model.config.id2label` names them."
    )


def _tokens(config: Any) -> str:
    if not hasattr(config, "num_tokens"):
        return "`outputs.last_hidden_state` holds one vector for each token."
    sees = hasattr(config, "image_size")
    tokens, order = (config.num_tokens, "sound first") if sees else (1 + config.num_tokens, "the class token first")
    return f"`outputs.last_hidden_state` is `(1, {tokens}, {config.hidden_size})`, {order}."


def _settings(config: Any) -> dict[str, Any]:
    sees = hasattr(config, "image_size")
    sound = f"{config.max_length} frames of {config.num_mel_bins} mel bands"
    settings: dict[str, Any] = {
        "encoder": f"width {config.hidden_size}, {config.num_hidden_layers} layers"
        + (f" of each modality and {config.num_shared_layers} shared" if sees else "")
        + f", {config.num_attention_heads} heads",
    }
    if not hasattr(config, "audio_grid"):
        return {**settings, "sound": f"{sound}, {USUAL_RATE} Hz, patches of {config.patch_size} x {config.patch_size}"}
    settings |= {
        "sound": f"{sound}, {config.sampling_rate} Hz, patches "
        f"of {config.patch_size} x {config.patch_size}, numbered by {config.token_order}",
        "mean, std of spectrograms": f"{config.spectrogram_mean}, {config.spectrogram_std} (halved again)",
    }
    if sees:
        size = "{} x {}".format(*config.image_height_width)
        settings["frames"] = f"{config.num_frames} of {size}"
        settings["mean, std of colours"] = f"{tuple(config.image_mean)}, {tuple(config.image_std)}"
    return settings
