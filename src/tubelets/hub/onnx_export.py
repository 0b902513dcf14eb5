"""Classifiers and encoders as ONNX files that take raw frames, checked against torch before they are called done."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)

INSTALL = "pip install 'tubelets[onnx]'"
# A protobuf file cannot hold 2 GiB; larger weights go into a file beside it.
MAX_INLINE_BYTES = 1_800_000_000
OUTPUTS = {"classifier": ("logits",), "encoder": ("last_hidden_state", "pooler_output")}


class OnnxExportError(ValueError):
    """A model cannot be exported, or the file does not give the outputs of torch."""


@dataclass(frozen=True)
class OnnxReport:
    """What was exported.

    Attributes:
        path: the file.
        outputs: names of the outputs.
        difference: largest absolute difference from torch over the batch sizes that were compared, relative to the
            largest absolute output.
        num_bytes: size of the file and, where there is one, of the weights beside it.
    """

    path: Path
    outputs: tuple[str, ...]
    difference: float
    num_bytes: int


class _Exported(nn.Module):
    """A model whose outputs are plain tensors in a fixed order."""

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model: Any = model
        self.outputs = outputs
        self.eval()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        found = self.model(pixel_values, return_dict=True)
        return tuple(found[name].float() for name in self.outputs)


def export_onnx(
    model: PreTrainedModel,
    path: str | Path,
    input_type: Literal["uint8", "float32"] = "uint8",
    opset: int = 18,
    tolerance: float = 1e-4,
) -> OnnxReport:
    """Write a classifier or an encoder as an ONNX file with a dynamic batch size, and compare it with torch.

    The input is `pixel_values` `(batch, frames, channels, height, width)`. As uint8 these are raw frames of the
    model's size, and the file normalises them itself: there are no constants to get wrong and a quarter of the bytes to
    move. As float32 they are normalised frames, as the processor makes them. Outputs are float32: `logits` of a
    classifier, `last_hidden_state` and `pooler_output` of an encoder. Class names, mean, standard deviation and model
    type are in the file's metadata.

    Args:
        model: a classifier or an encoder of the masked-video family, with float32 weights.
        path: the `.onnx` file to write; it appears only when the comparison has passed.
        input_type: `uint8` or `float32`.
        opset: version of the ONNX operators.
        tolerance: largest difference from torch that is accepted, relative to the largest absolute output.

    Returns:
        What was exported and how far it is from torch.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime is not installed.
        OnnxExportError: if the model is a pretraining network, or not float32, the input type is unknown, or the
            outputs differ by more than the tolerance.
    """
    _require_onnx()
    outputs = _output_names(model)
    if input_type not in ("uint8", "float32"):
        raise OnnxExportError(f"input_type must be 'uint8' or 'float32', got {input_type!r}")
    if model.dtype != torch.float32:
        raise OnnxExportError(f"the weights are {model.dtype}; load the model with dtype=torch.float32 to export it")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".incomplete-{path.name}")
    training = model.training
    model.eval()
    try:
        inline = sum(each.numel() * each.element_size() for each in model.parameters()) < MAX_INLINE_BYTES
        if not inline:
            # The weights' file is named in the graph, so that such a model cannot be renamed afterwards.
            aside = path
        _write(model, aside, outputs, input_type, opset, inline)
        difference = compare_with_torch(model, aside, input_type)
        if not difference <= tolerance:
            raise OnnxExportError(
                f"the exported file differs from torch by {difference:.2g} of the largest output, more than "
                f"tolerance={tolerance:g}; try another opset than {opset}, or report the model"
            )
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        model.train(training)
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return OnnxReport(path, outputs, difference, size)


def compare_with_torch(
    model: PreTrainedModel, path: str | Path, input_type: str = "uint8", batch_sizes: tuple[int, ...] = (1, 3)
) -> float:
    """Run noise through a model and its ONNX file.

    Args:
        model: the model, in evaluation mode.
        path: its ONNX file.
        input_type: type of the file's input, `uint8` or `float32`.
        batch_sizes: clips in each comparison.

    Returns:
        The largest absolute difference of any output, relative to the largest absolute value of that output; infinity
        if a shape or a name differs, or a value is not finite.
    """
    _require_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = _output_names(model)
    if tuple(output.name for output in session.get_outputs()) != names:
        return float("inf")
    worst = 0.0
    for number in batch_sizes:
        clips = _noise(model, number, input_type)
        with torch.no_grad():
            expected = [each.cpu().numpy() for each in _Exported(model, names)(clips.to(model.device))]
        for ours, theirs in zip(expected, session.run(None, {"pixel_values": clips.numpy()}), strict=True):
            theirs = np.asarray(theirs)
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                return float("inf")
            worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-12)))
    return worst


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX export needs onnx, onnxscript and onnxruntime ({error}); {INSTALL}") from error


def _output_names(model: PreTrainedModel) -> tuple[str, ...]:
    if isinstance(model, TubeletsVideoMAEForVideoClassification):
        return OUTPUTS["classifier"]
    if isinstance(model, TubeletsVideoMAEModel):
        return OUTPUTS["encoder"]
    raise OnnxExportError(
        f"{type(model).__name__} is neither a classifier nor an encoder of this package; load the checkpoint with "
        "AutoModel or AutoModelForVideoClassification"
    )


def _noise(model: PreTrainedModel, number: int, input_type: str) -> Tensor:
    config: Any = model.config
    height, width = config.image_height_width
    shape = (number, config.num_frames, config.num_channels, height, width)
    generator = torch.Generator().manual_seed(number)
    if input_type == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator)


def _write(
    model: PreTrainedModel, path: Path, outputs: tuple[str, ...], input_type: str, opset: int, inline: bool
) -> None:
    import onnx

    # Two clips, because torch takes a batch of one for a constant.
    clips = _noise(model, 2, input_type).to(model.device)
    program = torch.onnx.export(
        _Exported(model, outputs),
        (clips,),
        input_names=["pixel_values"],
        output_names=list(outputs),
        dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(_metadata(model, input_type))
    program.save(str(path), external_data=not inline)
    onnx.checker.check_model(str(path))


def _metadata(model: PreTrainedModel, input_type: str) -> dict[str, str]:
    config: Any = model.config
    content = {
        "model_type": config.model_type,
        "class": type(model).__name__,
        "input_type": input_type,
        "num_frames": config.num_frames,
        "image_size": list(config.image_height_width),
        "image_mean": list(config.image_mean),
        "image_std": list(config.image_std),
    }
    if _output_names(model) == OUTPUTS["classifier"]:
        content["id2label"] = config.id2label
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}
