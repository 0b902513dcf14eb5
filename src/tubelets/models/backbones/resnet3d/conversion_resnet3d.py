"""Checkpoints of the CNN methods of SEVERE and ours, in both directions (severe_benchmark.md, sections 3 and 4).

Every method names its R(2+1)D-18 weights differently; ours are torchvision's names. Weights other than the backbone's
are dropped if the layout lists them, and otherwise rejected.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DForVideoClassification, ResNet3DModel
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, Transform, convert_to_ours, read_checkpoint
from tubelets.models.common.official import OfficialLayout, without_wrapper


@dataclass(frozen=True)
class BackboneLayout:
    """The layout of a method's video ResNet weights.

    Attributes:
        methods: methods with this layout.
        table: names of the backbone's weights, and dropped names.
    """

    methods: tuple[str, ...]
    table: tuple[Rename, ...]

    @property
    def stem(self) -> str:
        """The official name of the first convolution, by which the layout is recognised."""
        return next(name for line in self.table if (name := line.official_name("stem.0.weight")) is not None)


def _dropped(*prefixes: str) -> list[Rename]:
    return [Rename(f"{prefix}.{{rest}}", None) for prefix in prefixes]


QUEUE = [Rename("queue", None), Rename("queue{rest}", None)]
# Audio networks and heads next to the video network.
REST = [Rename("{rest}", None)]


def _prefixed(prefix: str) -> list[Rename]:
    return [Rename(f"{prefix}{part}{{rest}}", f"{part}{{rest}}") for part in ("stem.", "layer")]


def _numbered(prefix: str) -> list[Rename]:
    """The stem is stage 0 of a list, layer N its stage N."""
    return [Rename(f"{prefix}0.{{rest}}", "stem.{rest}"), Rename(f"{prefix}{{}}.{{rest}}", "layer{}.{rest}")]


def _named(parts: Mapping[str, str], inner: str) -> list[Rename]:
    """Names of CtP and Tubelet-Contrast; `inner` is the place of a block's convolution in ours."""
    block = "layer{}.{}"
    convolutions = {place: theirs for place, theirs in parts.items() if inner or theirs == "conv"}
    return [
        *(Rename(f"backbone.stem.{theirs}.{{leaf}}", f"stem.{place}.{{leaf}}") for place, theirs in parts.items()),
        *(
            Rename(f"backbone.{block}.conv{{}}.{theirs}.{{leaf}}", f"{block}.conv{{}}.{inner}{place}.{{leaf}}")
            for place, theirs in convolutions.items()
        ),
        Rename(f"backbone.{block}.bn{{}}.{{leaf}}", f"{block}.conv{{}}.1.{{leaf}}"),
        Rename(f"backbone.{block}.downsample.conv.{{leaf}}", f"{block}.downsample.0.{{leaf}}"),
        Rename(f"backbone.{block}.downsample_bn.{{leaf}}", f"{block}.downsample.1.{{leaf}}"),
    ]


# TCLR's first channel is blue (severe_benchmark.md, section 2.3); its stem is reversed, so that our network expects
# colours in the usual order.
BLUE_FIRST = Transform(lambda weight: weight.flip(1), lambda weight: weight.flip(1))
FACTORISED = _named({"0": "conv_s", "1": "bn_s", "3": "conv_t", "4": "bn_t"}, "0.")
FULL = _named({"0": "conv", "1": "bn"}, "")
_HEADS = [*_dropped("fc", "head", "key_encoder", "key_fc"), *QUEUE]

LAYOUTS = {
    name: BackboneLayout(methods, tuple(table))
    for name, methods, table in [
        ("torchvision", ("supervised",), [*_prefixed(""), *_dropped("fc")]),
        ("video_network", ("SeLaVi", "GDT"), [*_prefixed("video_network.base."), *REST]),
        (
            "encoder_q",
            ("MoCo", "VideoMoCo"),
            [*_prefixed("encoder_q."), *_dropped("encoder_k", "encoder_q.fc"), *QUEUE],
        ),
        ("base_network", ("Pretext-Contrast",), [*_numbered("base_network."), *_dropped("fc", "projector")]),
        (
            "encoder_q.base_network",
            ("RSPNet",),
            [
                *_numbered("encoder_q.encoder.base_network."),
                *_dropped("encoder_k", "encoder_q.encoder.linear", "encoder_q.fc1", "encoder_q.fc2"),
                *QUEUE,
            ],
        ),
        ("video_model", ("AVID-CMA",), [*_prefixed("video_model."), *REST]),
        (
            "sequential",
            ("TCLR",),
            [Rename("0.stem.0.weight", "stem.0.weight", BLUE_FIRST), *_prefixed("0."), *_dropped("0.fc", "1")],
        ),
        ("backbone_2plus1d", ("CtP", "Tubelet-Contrast"), [*FACTORISED, *_HEADS]),
        ("backbone_3d", ("Tubelet-Contrast",), [*FULL, *_HEADS]),
    ]
}


def find_layout(state_dict: Mapping[str, Tensor]) -> str:
    """Find the layout of official weights by their names alone.

    Args:
        state_dict: official names, without a leading `module.`, to tensors.

    Returns:
        A name in `LAYOUTS`.

    Raises:
        CheckpointLayoutError: if no layout fits; the message names the prefixes that were seen.
    """
    for name, layout in LAYOUTS.items():
        if layout.stem in state_dict:
            return name
    seen = sorted({key.split(".")[0] for key in state_dict})[:8]
    known = ", ".join(f"{name} ({', '.join(layout.methods)})" for name, layout in LAYOUTS.items())
    raise CheckpointLayoutError(f"no video ResNet is found under the names {seen}...; known layouts are {known}")


def _infer(layout: str, state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """Sizes of the network.

    Epsilon is torchvision's 1e-5, and 1e-3 for Tubelet-Contrast and CtP. (SEVERE evaluates all with 1e-5: give
    `batch_norm_eps` for an exact comparison.) TCLR does not normalise colours.
    """
    ours = convert_to_ours(state_dict, LAYOUTS[layout].table, layout)
    stem = ours["stem.0.weight"]
    factorised = stem.shape[2] == 1
    depths: list[int] = []
    sizes: list[int] = []
    while f"layer{len(depths) + 1}.0.conv2.1.weight" in ours:
        stage = f"layer{len(depths) + 1}"
        depths.append(sum(name.startswith(f"{stage}.") and name.endswith(".conv2.1.weight") for name in ours))
        sizes.append(len(ours[f"{stage}.0.conv2.1.weight"]))
    fields: dict[str, Any] = {
        "convolution": "2plus1d" if factorised else "3d",
        "depths": depths,
        "hidden_sizes": sizes,
        "stem_size": stem.shape[0] if factorised else 45,
        "num_channels": stem.shape[1],
        "dilated_last_stage": factorised and f"layer{len(depths)}.0.conv1.0.weight" in ours,
        "batch_norm_eps": 1e-3 if layout.startswith("backbone") else 1e-5,
    }
    if layout == "sequential":
        fields |= {"image_mean": (0.0,) * stem.shape[1], "image_std": (1.0,) * stem.shape[1]}
    return ResNet3DConfig, fields


def _official(layout: str) -> OfficialLayout:
    # A file with a queue is a whole pretraining network of Tubelet-Contrast, which has a layout of its own.
    contrastive = layout.startswith("backbone")
    return OfficialLayout(
        layout,
        lambda found: LAYOUTS[layout].stem in found and not (contrastive and "queue" in found),
        functools.partial(_infer, layout),
        lambda found: ResNet3DModel,
        lambda model: LAYOUTS[layout].table,
    )


BY_LAYOUT = {layout: _official(layout) for layout in LAYOUTS}
OFFICIAL = list(BY_LAYOUT.values())


def infer_config(
    state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None, **overrides: Any
) -> ResNet3DConfig:
    """Read the sizes off official weights; see `OfficialLayout.infer_config`."""
    weights = without_wrapper(state_dict)
    return BY_LAYOUT[find_layout(weights)].infer_config(weights, arguments, **overrides)


def from_official(
    state_dict: Mapping[str, Tensor], config: ResNet3DConfig | None = None, layout: str | None = None, **overrides: Any
) -> ResNet3DModel:
    """Build our backbone from a method's weights, strictly: every weight of the backbone is used and none is missing.

    Args:
        state_dict: official names to tensors.
        config: the configuration, or None to infer it.
        layout: a name in `LAYOUTS`; None finds it.
        **overrides: fields of `ResNet3DConfig` that weights cannot show.

    Returns:
        The backbone. Save it, and `AutoModelForVideoClassification.from_pretrained` puts a new classifier on it.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit the layout.
    """
    weights = without_wrapper(state_dict)
    return BY_LAYOUT[layout or find_layout(weights)].from_official(weights, config, **overrides)


def to_official(
    model: ResNet3DModel | ResNet3DForVideoClassification, layout: str = "torchvision"
) -> dict[str, Tensor]:
    """The backbone's state dict in the names of a method; torchvision's own network loads the default.

    Args:
        model: a backbone, or a classifier whose linear layer is written for torchvision.
        layout: a name in `LAYOUTS`.

    Returns:
        Official names to tensors.
    """
    if not isinstance(model, ResNet3DForVideoClassification):
        return BY_LAYOUT[layout].to_official(model)
    head = {f"fc.{name}": value for name, value in model.classifier.state_dict().items()}
    return BY_LAYOUT[layout].to_official(model.backbone) | (head if layout == "torchvision" else {})


def load_official(path: str | Path, **overrides: Any) -> ResNet3DModel:
    """Read a checkpoint file of any of the methods; see `OfficialLayout.load_official`."""
    state_dict, _ = read_checkpoint(path)
    return from_official(state_dict, **overrides)
