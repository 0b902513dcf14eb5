"""Checkpoints of the CNN methods of SEVERE and ours, in both directions (severe_benchmark.md, sections 3 and 4).

Every method keeps its R(2+1)D-18 under other names. A layout here is a function from our names, which are
torchvision's, to a method's; what a file holds besides the backbone is dropped if the layout says so, else refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DForVideoClassification, ResNet3DModel
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import read_checkpoint

# The stem's parts and a block's in the names of CtP and Tubelet-Contrast, factorised and not.
_FACTORISED = {"0": "conv_s", "1": "bn_s", "3": "conv_t", "4": "bn_t"}
_FULL = {"0": "conv", "1": "bn"}


@dataclass(frozen=True)
class BackboneLayout:
    """Where a method keeps a video ResNet.

    Attributes:
        methods: whose files have it.
        official: their name for one of ours.
        dropped: what else such a file holds, as a pattern; names are matched from their beginning.
    """

    methods: tuple[str, ...]
    official: Callable[[str], str]
    dropped: str


def _prefixed(prefix: str) -> Callable[[str], str]:
    return lambda name: prefix + name


def _numbered(prefix: str) -> Callable[[str], str]:
    """The stem is stage 0 of a list, layer N its stage N."""
    return lambda name: prefix + re.sub(r"^(stem|layer)(\d?)\.", lambda found: f"{found[2] or 0}.", name)


def _factorised(name: str) -> str:
    """Names of CtP and Tubelet-Contrast for an R(2+1)D."""
    name = re.sub(r"^stem\.(\d)", lambda found: f"stem.{_FACTORISED[found[1]]}", name)
    name = re.sub(r"\.(conv\d)\.0\.(\d)", lambda found: f".{found[1]}.{_FACTORISED[found[2]]}", name)
    return "backbone." + _norms_and_shortcuts(name)


def _full(name: str) -> str:
    """Names of Tubelet-Contrast for an R3D."""
    name = re.sub(r"^stem\.(\d)", lambda found: f"stem.{_FULL[found[1]]}", name)
    name = re.sub(r"\.(conv\d)\.0\.", r".\1.conv.", name)
    return "backbone." + _norms_and_shortcuts(name)


def _norms_and_shortcuts(name: str) -> str:
    name = re.sub(r"\.conv(\d)\.1\.", r".bn\1.", name)
    return name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample_bn.")


_HEADS = r"fc\.|head\.|key_encoder\.|key_fc\.|queue"
LAYOUTS = {
    "torchvision": BackboneLayout(("supervised",), lambda name: name, r"fc\."),
    "video_network": BackboneLayout(("SeLaVi", "GDT"), _prefixed("video_network.base."), ""),
    "encoder_q": BackboneLayout(
        ("MoCo", "VideoMoCo"), _prefixed("encoder_q."), r"encoder_k\.|queue|queue_ptr|encoder_q\.fc\."
    ),
    "base_network": BackboneLayout(("Pretext-Contrast",), _numbered("base_network."), r"fc\.|projector\."),
    "encoder_q.base_network": BackboneLayout(
        ("RSPNet",),
        _numbered("encoder_q.encoder.base_network."),
        r"encoder_k\.|queue|encoder_q\.(encoder\.linear|fc1|fc2)\.",
    ),
    "video_model": BackboneLayout(("AVID-CMA",), _prefixed("video_model."), ""),
    "sequential": BackboneLayout(("TCLR",), _prefixed("0."), r"0\.fc\.|1\."),
    "backbone_2plus1d": BackboneLayout(("CtP", "Tubelet-Contrast"), _factorised, _HEADS),
    "backbone_3d": BackboneLayout(("Tubelet-Contrast",), _full, _HEADS),
}

# TCLR sees blue before green and red (severe_benchmark.md, section 2.3); its stem is turned round, so that our network
# takes colours in the usual order.
_BLUE_FIRST = "sequential"


def find_layout(state_dict: Mapping[str, Tensor]) -> str:
    """Tell a layout from the names alone.

    Args:
        state_dict: official names, without a leading `module.`, to tensors.

    Returns:
        A name in `LAYOUTS`.

    Raises:
        CheckpointLayoutError: if it is none of them; the message names the prefixes that were seen.
    """
    for name, layout in LAYOUTS.items():
        if layout.official("stem.0.weight") in state_dict:
            return name
    seen = sorted({key.split(".")[0] for key in state_dict})[:8]
    known = ", ".join(f"{name} ({', '.join(layout.methods)})" for name, layout in LAYOUTS.items())
    raise CheckpointLayoutError(f"no video ResNet is found under the names {seen}...; known layouts are {known}")


def infer_config(state_dict: Mapping[str, Tensor], layout: str, **overrides: Any) -> ResNet3DConfig:
    """Read the sizes off official weights.

    Args:
        state_dict: official names to tensors.
        layout: a name in `LAYOUTS`.
        **overrides: fields of `ResNet3DConfig` that weights cannot show.

    Returns:
        The configuration; the epsilon is torchvision's 1e-5, and for Tubelet-Contrast and CtP their own, 1e-3. (SEVERE
        evaluates all with 1e-5: give `batch_norm_eps` for an exact comparison.) TCLR does not normalise colours.
    """
    official = LAYOUTS[layout].official
    stem = state_dict[official("stem.0.weight")]
    factorised = stem.shape[2] == 1
    depths: list[int] = []
    sizes: list[int] = []
    while official(f"layer{len(depths) + 1}.0.conv2.1.weight") in state_dict:
        stage, blocks = len(depths) + 1, 0
        while official(f"layer{stage}.{blocks}.conv2.1.weight") in state_dict:
            blocks += 1
        depths.append(blocks)
        sizes.append(len(state_dict[official(f"layer{stage}.0.conv2.1.weight")]))
    fields: dict[str, Any] = {
        "convolution": "2plus1d" if factorised else "3d",
        "depths": depths,
        "hidden_sizes": sizes,
        "stem_size": stem.shape[0] if factorised else 45,
        "num_channels": stem.shape[1],
        "dilated_last_stage": factorised and official(f"layer{len(depths)}.0.conv1.0.weight") in state_dict,
        "batch_norm_eps": 1e-3 if layout.startswith("backbone") else 1e-5,
    }
    if layout == _BLUE_FIRST:
        fields |= {"image_mean": (0.0,) * stem.shape[1], "image_std": (1.0,) * stem.shape[1]}
    return ResNet3DConfig(**{**fields, **overrides})


def from_official(
    state_dict: Mapping[str, Tensor],
    config: ResNet3DConfig | None = None,
    layout: str | None = None,
    **overrides: Any,
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
    weights = {name.removeprefix("module."): value for name, value in state_dict.items()}
    layout = layout or find_layout(weights)
    model = ResNet3DModel(config or infer_config(weights, layout, **overrides))
    names = {LAYOUTS[layout].official(name): name for name in model.state_dict()}
    dropped = re.compile(LAYOUTS[layout].dropped)
    unknown = [name for name in weights if name not in names and dropped.match(name) is None]
    if unknown:
        raise CheckpointLayoutError(
            f"{', '.join(unknown[:5])} are not part of the layout {layout} ({', '.join(LAYOUTS[layout].methods)})"
        )
    found = {ours: weights[theirs] for theirs, ours in names.items() if theirs in weights}
    if layout == _BLUE_FIRST and "stem.0.weight" in found:
        found["stem.0.weight"] = found["stem.0.weight"].flip(1)
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise CheckpointLayoutError(f"the weights do not fit the layout {layout}: {error}") from error
    return model


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
    classifier = isinstance(model, ResNet3DForVideoClassification)
    backbone = model.backbone if classifier else model
    result = {LAYOUTS[layout].official(name): value for name, value in backbone.state_dict().items()}
    if layout == _BLUE_FIRST:
        stem = LAYOUTS[layout].official("stem.0.weight")
        result[stem] = result[stem].flip(1)
    if classifier and layout == "torchvision":
        result |= {f"fc.{name}": value for name, value in model.classifier.state_dict().items()}
    return result


def load_official(path: str | Path, **overrides: Any) -> ResNet3DModel:
    """Read a checkpoint file of any of the methods.

    Args:
        path: the file.
        **overrides: fields of `ResNet3DConfig` that weights cannot show.

    Returns:
        The backbone with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if it holds no video ResNet in a known layout.
    """
    state_dict, _ = read_checkpoint(path)
    return from_official(state_dict, **overrides)
