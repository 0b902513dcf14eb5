"""Descriptions of a model's modalities, inputs, encoder and outputs for cards, derived from its input specs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, SpectrogramSpec, VideoSpec
from tubelets.hub.card_tasks import classification_task
from tubelets.models.common.auto import MODELS
from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.task import Task

ENCODER_FIELDS = {
    "hidden_size": "width {}",
    "num_hidden_layers": "{} layers",
    "num_shared_layers": "{} shared by both modalities",
    "num_attention_heads": "{} heads",
    "patch_size": "patch size {}",
    "tubelet_size": "tubelet size {}",
}
"""Fields of configurations that describe a transformer, and their words in a card."""

NOT_OF_THE_ENCODER = {
    "id2label", "label2id", "num_labels", "architectures", "problem_type", "use_mean_pooling", "transformers_version",
}  # fmt: skip

_TRIALS: "dict[str, _Trial]" = {}


def modalities_of(config: PreTrainedConfig) -> list[str]:
    """The modalities of a model's inputs, without repetition, in the order of its arguments."""
    return list(dict.fromkeys(spec.modality for spec in model_inputs(config).values()))


def adjective(modalities: Iterable[str]) -> str:
    """Adjective for a model with these input modalities.

    Example:
        >>> adjective(["video"]), adjective(["audio", "video"]), adjective(["video", "text"])
        ('video', 'audio-visual', 'video-text')
    """
    found = list(modalities)
    return "audio-visual" if set(found) == {"audio", "video"} else "-".join(found)


def with_article(words: str) -> str:
    """Add an article to a noun phrase at the start of a sentence.

    Example:
        >>> with_article("audio classifier"), with_article("video encoder")
        ('An audio classifier', 'A video encoder')
    """
    return f"{'An' if words[0] in 'aeiou' else 'A'} {words}"


def input_rows(config: PreTrainedConfig) -> dict[str, str]:
    """Rows of a card's table of inputs.

    Example:
        >>> from tubelets import StructuredNoiseAudioConfig
        >>> input_rows(StructuredNoiseAudioConfig())
        {'spectrogram': '1024 frames of 128 mel bands, from audio at 16000 Hz'}
    """
    rows: dict[str, str] = {}
    for name, spec in model_inputs(config).items():
        rows |= _rows_of(name, spec)
    return rows


def _rows_of(name: str, spec: InputSpec) -> dict[str, str]:
    if isinstance(spec, VideoSpec):
        return {
            "frames": f"{spec.num_frames} of {spec.size[0]} x {spec.size[1]} pixels",
            "mean, std of pixels": f"{spec.mean}, {spec.std}",
        }
    if isinstance(spec, SpectrogramSpec):
        bands = f"{spec.max_length} frames of {spec.num_mel_bins} mel bands"
        return {"spectrogram": f"{bands}, from audio at {spec.sampling_rate} Hz"}
    return {name: f"{spec.modality} of shape {spec.shape}"}


def encoder_rows(config: PreTrainedConfig) -> dict[str, str]:
    """Row of a card's table with a transformer's sizes; empty for other networks.

    Example:
        >>> from tubelets import SigmaConfig
        >>> encoder_rows(SigmaConfig())["encoder"]
        'width 768, 12 layers, 12 heads, patch size 16, tubelet size 2'
    """
    fields = config.to_dict()
    found = [words.format(fields[name]) for name, words in ENCODER_FIELDS.items() if name in fields]
    return {"encoder": ", ".join(found)} if found else {}


def outputs_of(config: PreTrainedConfig, task: Task | None) -> str:
    """Describe the outputs of a model.

    Args:
        config: its configuration.
        task: the task of a classifier, None for an encoder.

    Returns:
        One or two sentences.
    """
    if task is not None and task.has_classes:
        return (
            f"`outputs.logits` has one score for each of {config.num_labels} classes; `model.config.id2label` names "
            "them."
        )
    if task is not None:
        return (
            "`outputs.video_embeds` and `outputs.text_embeds` have a vector for each video and text; their dot "
            "products are similarities. `model.get_video_features` and `model.get_text_features` compute one side."
        )
    if config.model_type not in MODELS:
        return f"`outputs` are those of `{config.model_type}` in transformers."
    shapes = ", ".join(f"`outputs.{name}` `{shape}`" for name, shape in encoder_shapes(config).items())
    head = classification_task(config).auto_class
    if head not in MODELS[config.model_type].models:
        return f"Shapes: {shapes}."
    return f"Shapes: {shapes}. `{head}.from_pretrained` adds a new classification head."


def encoder_shapes(config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's outputs for one clip of the declared size.

    Args:
        config: a configuration of this package.

    Returns:
        `last_hidden_state` and `pooler_output` to their shapes.

    Example:
        >>> from tubelets import ResNet3DConfig
        >>> encoder_shapes(ResNet3DConfig())["last_hidden_state"]
        (1, 512, 2, 7, 7)
    """
    return _trial(config).shapes


@dataclass(frozen=True)
class _Trial:
    """What an encoder does with one clip: shapes of its outputs, and billions of multiply-accumulates."""

    shapes: dict[str, tuple[int, ...]]
    work: float


def _trial(config: PreTrainedConfig) -> _Trial:
    """Run an encoder on one clip of the declared size; the result is kept for equal encoders."""
    # Labels do not matter to an encoder; without them all cards of one architecture share one entry.
    fields = {name: value for name, value in config.to_dict().items() if name not in NOT_OF_THE_ENCODER}
    key = json.dumps(fields, sort_keys=True, default=str)
    if key not in _TRIALS:
        counter = FlopCounterMode(display=False)
        plain = type(config).from_dict(config.to_dict())
        # The counter does not know the fused attention of CPUs; the plain one does the same products.
        plain._attn_implementation = "eager"
        inputs = model_inputs(config)
        # Fake tensors have shapes but no values, so even the largest encoder runs in a second or two.
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), counter:
            # The counter also follows gradients, which are of no interest here.
            model = _built(plain).eval().requires_grad_(False)
            outputs = model(**{name: spec.example(1) for name, spec in inputs.items()})
            shapes = {name: tuple(outputs[name].shape) for name in ("last_hidden_state", "pooler_output")}
        _TRIALS[key] = _Trial(shapes, counter.get_total_flops() / 2e9)
    return _TRIALS[key]


def _built(config: PreTrainedConfig) -> Any:
    """A model of fake tensors, or of real ones if its constructor reads values, as those of some image models do."""
    try:
        return AutoModel.from_config(config)
    except DataDependentOutputException:
        with unset_fake_temporarily():
            return AutoModel.from_config(config)


def size_rows(config: PreTrainedConfig) -> dict[str, str]:
    """Rows of a card's table with the size of a model and the work of its encoder.

    Args:
        config: a configuration; those of other libraries have no rows.

    Returns:
        Parameters of the model that `architectures` names, or of the encoder, and multiply-accumulates of the encoder
        for one clip.

    Example:
        >>> from tubelets import SigmaConfig
        >>> size_rows(SigmaConfig(architectures=["SigmaModel"]))
        {'parameters': '86.2 M', 'encoder, one clip': '180 GMACs'}
    """
    if config.model_type not in MODELS:
        return {}
    millions = num_parameters(config) / 1e6
    return {"parameters": f"{millions:.3g} M", "encoder, one clip": f"{_trial(config).work:.3g} GMACs"}


def num_parameters(config: PreTrainedConfig) -> int:
    """Number of parameters of the model that `architectures` names, or of the encoder.

    Args:
        config: a configuration of this package.
    """
    entry = MODELS[config.model_type]
    reference = entry.class_references.get((config.architectures or [""])[0])
    with torch.device("meta"):
        model = AutoModel.from_config(config) if reference is None else entry.load(reference)(config)
    return sum(parameter.numel() for parameter in model.parameters())


def transfer_limit(config: PreTrainedConfig) -> str:
    """The limitation stated on every card."""
    text = "Features learned on one data set can fail on others"
    return f"{text}; the SEVERE benchmark measures this for videos." if "video" in modalities_of(config) else f"{text}."
