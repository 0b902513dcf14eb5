"""Usage snippets of cards and trial inputs for publishing, derived from input specs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, ProcessorMixin

from tubelets.data.modalities.specs import InputSpec, SkeletonSpec, SpectrogramSpec, TextSpec, VideoSpec
from tubelets.models.common.auto_classes import OWN
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import processor_class

TRIAL_HEIGHT_WIDTH = (80, 100)
"""Size of trial frames, chosen so that the processor must resize and crop them."""


@dataclass(frozen=True)
class _Medium:
    """How a processor reads a medium.

    Attributes:
        keyword: the processor's argument.
        expression: its value in a snippet.
        read: the snippet's line that reads a file, from the spec and the stride.
        trial: a random value, from the spec and a generator.
        imports: a further import of the snippet.
        options: further arguments of the processor in a snippet.
    """

    keyword: str
    expression: str
    read: Callable[[Any, int], str]
    trial: Callable[[Any, torch.Generator], Any]
    imports: str | None = None
    options: tuple[str, ...] = ()


def _trial_clip(spec: VideoSpec, generator: torch.Generator) -> torch.Tensor:
    shape = (spec.num_frames, spec.num_channels, *TRIAL_HEIGHT_WIDTH)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _trial_recording(spec: SkeletonSpec, generator: torch.Generator) -> Any:
    shape = (spec.num_bodies, 2 * spec.num_frames, spec.num_joints, spec.num_coordinates)
    return torch.randn(shape, generator=generator).numpy()


_MEDIA: dict[type[InputSpec], _Medium] = {
    SkeletonSpec: _Medium(
        keyword="skeletons",
        expression="recording",
        read=lambda spec, stride: (
            f'recording = numpy.load("recording.npy")  # (bodies, frames, {spec.num_joints} joints of {spec.layout}, '
            f"{spec.num_coordinates})"
        ),
        trial=_trial_recording,
        imports="import numpy",
    ),
    SpectrogramSpec: _Medium(
        keyword="audio",
        expression="samples / 32768",
        read=lambda spec, stride: f'rate, samples = wavfile.read("sound.wav")  # 16-bit mono, {spec.sampling_rate} Hz',
        trial=lambda spec, generator: spec.waveform.example(1, generator)[0].numpy(),
        imports="from scipy.io import wavfile",
        options=("sampling_rate=rate",),
    ),
    TextSpec: _Medium(
        keyword="text",
        expression="text",
        read=lambda spec, stride: 'text = "a bird flies to the left"',
        trial=lambda spec, generator: "a bird flies to the left",
    ),
    VideoSpec: _Medium(
        keyword="videos",
        expression="clip",
        read=lambda spec, stride: (
            f'clip = tubelets.read_clip("clip.mp4", num_frames={spec.num_frames}, '
            f"stride={1 if spec.num_frames == 1 else stride})"
        ),
        trial=_trial_clip,
    ),
}


def usage_snippet(
    config: PreTrainedConfig, auto_class: str, repository: str, stride: int = 4, revision: str | None = None
) -> str:
    """Python code that loads a model and its processor and runs them on files.

    Inputs without a processor, of a new modality, are shown as tensors of the right shape.

    Args:
        config: the model's configuration.
        auto_class: Auto class that loads the model.
        repository: Hub id or folder of the model.
        stride: distance between the frames of a clip, in video frames.
        revision: branch or tag of the repository; None for the main branch.

    Returns:
        The code; it ends with a variable `outputs`.

    Example:
        >>> from tubelets import ResNet3DConfig
        >>> print(usage_snippet(ResNet3DConfig(), "AutoModel", "me/r2plus1d", stride=2))
        import tubelets
        from transformers import AutoModel, AutoVideoProcessor
        <BLANKLINE>
        model = AutoModel.from_pretrained("me/r2plus1d")
        processor = AutoVideoProcessor.from_pretrained("me/r2plus1d")
        clip = tubelets.read_clip("clip.mp4", num_frames=16, stride=2)
        inputs = processor(clip, return_tensors="pt")
        outputs = model(**inputs)
    """
    media, tensors = _split(model_inputs(config))
    processor = processor_class(config).__name__ if media else ""
    where = f'"{repository}"' + (f', revision="{revision}"' if revision is not None else "")
    imports = [medium.imports for medium, _ in media if medium.imports is not None]
    own = auto_class in OWN
    classes = sorted(({processor} if media else set()) | (set() if own else {auto_class}))
    lines = [
        "import tubelets" if any(medium is _MEDIA[VideoSpec] for medium, _ in media) else _IMPORT_TO_REGISTER,
        *imports,
        *(["import torch"] if tensors else []),
        *([f"from tubelets import {auto_class}"] if own else []),
        f"from transformers import {', '.join(classes)}\n",
        f"model = {auto_class}.from_pretrained({where})",
        *([f"processor = {processor}.from_pretrained({where})"] if media else []),
        *(medium.read(spec, stride) for medium, spec in media),
        *(_tensor_line(name, spec) for name, spec in tensors.items()),
    ]
    given = [f"{name}={name}" for name in tensors]
    if media:
        # Keyword names are consistent only for processors of several media.
        joint = processor == "AutoProcessor"
        values = [(f"{medium.keyword}=" if joint else "") + medium.expression for medium, _ in media]
        options = [option for medium, _ in media for option in medium.options]
        lines.append(f'inputs = processor({", ".join([*values, *options])}, return_tensors="pt")')
        given.append("**inputs")
    lines.append(f"outputs = model({', '.join(given)})")
    return "\n".join(lines)


_IMPORT_TO_REGISTER = "import tubelets  # registers the model with the Auto classes"


def trial_inputs(config: PreTrainedConfig, processor: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Process random media into arguments of the model's `forward`.

    Args:
        config: the model's configuration.
        processor: the model's processor.
        generator: draws the media.

    Returns:
        Argument to tensor, for one clip.
    """
    media, tensors = _split(model_inputs(config))
    inputs = {name: spec.example(1, generator) for name, spec in tensors.items()}
    if media:
        values = {medium.keyword: medium.trial(spec, generator) for medium, spec in media}
        rates = [spec.sampling_rate for _, spec in media if isinstance(spec, SpectrogramSpec)]
        options = {"return_tensors": "pt", **({"sampling_rate": rates[0]} if rates else {})}
        joint = isinstance(processor, ProcessorMixin)
        inputs |= dict(processor(**values, **options) if joint else processor(*values.values(), **options))
    return inputs


def _split(specs: Mapping[str, InputSpec]) -> tuple[list[tuple[_Medium, Any]], dict[str, InputSpec]]:
    """Split inputs into those a processor computes from media, and others."""
    # Texts are tokenised by the processors of videos with texts, and whole recordings of skeletons cut by those of
    # networks of skeletons alone; other models have no processor for them.
    sees = any(isinstance(spec, VideoSpec) for spec in specs.values())
    known = {kind: medium for kind, medium in _MEDIA.items() if sees or kind is not TextSpec}
    if len(specs) > 1:
        known.pop(SkeletonSpec)
    media = [(known[type(spec)], spec) for spec in specs.values() if type(spec) in known]
    return media, {name: spec for name, spec in specs.items() if type(spec) not in known}


def _tensor_line(name: str, spec: InputSpec) -> str:
    dtype = str(spec.example(1).dtype)
    return (
        f"{name} = torch.zeros({', '.join(map(str, (1, *spec.shape)))}, dtype={dtype})  # {spec.modality} of one clip"
    )
