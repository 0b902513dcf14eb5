"""Export classifiers and encoders as ONNX files that are checked against torch before they are kept."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tubelets.data.atomic import write_atomically
from tubelets.data.modalities.specs import VideoSpec
from tubelets.models.common.auto import MODELS
from tubelets.models.common.inputs import model_inputs

INSTALL = "pip install 'tubelets[onnx]'"
# A protobuf file cannot hold 2 GiB; larger weights go into a second file.
MAX_INLINE_BYTES = 1_800_000_000
OUTPUTS = {"classifier": ("logits",), "encoder": ("last_hidden_state", "pooler_output")}
# torch exports this opset; converting to older ones breaks Pad and ReduceMean.
OLDEST_OPSET = 18


class OnnxExportError(ValueError):
    """A model cannot be exported, or the outputs of the file differ from those of torch."""


@dataclass(frozen=True)
class OnnxReport:
    """The result of an export.

    Attributes:
        path: the file.
        outputs: names of the outputs.
        difference: largest absolute difference from torch over the batch sizes that were compared, relative to the
            largest absolute output.
        num_bytes: size of the file, including the file of weights if there is one.
    """

    path: Path
    outputs: tuple[str, ...]
    difference: float
    num_bytes: int


class _Exported(nn.Module):
    """A model whose inputs and outputs are plain tensors in a fixed order."""

    def __init__(self, model: PreTrainedModel, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model: Any = model
        self.inputs = inputs
        self.outputs = outputs
        self.eval()

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, values, strict=True)), return_dict=True)
        return tuple(found[name].float() for name in self.outputs)


def export_onnx(
    model: PreTrainedModel,
    path: str | Path,
    input_type: Literal["uint8", "float32"] = "uint8",
    opset: int = OLDEST_OPSET,
    tolerance: float = 1e-4,
) -> OnnxReport:
    """Write a classifier or an encoder as an ONNX file with a dynamic batch size, and compare it with torch.

    Inputs have the names and, but for the batch, the shapes of the configuration's input specs, for example
    `pixel_values` `(batch, frames, channels, height, width)`. As uint8, frames are raw and the file normalises them:
    the caller needs no constants and moves a quarter of the bytes. As float32 they are normalised, as the processor
    returns them. Inputs of other modalities keep their type. Outputs are float32: `logits` of a classifier,
    `last_hidden_state` and `pooler_output` of an encoder. The metadata holds the model type, the input specs and, for
    a classifier, the class names.

    Args:
        model: a classifier or an encoder of this package with float32 weights.
        path: the `.onnx` file to write; it appears only if the comparison passes.
        input_type: type of the frames, `uint8` or `float32`.
        opset: version of the ONNX operators, at least 18.
        tolerance: largest accepted difference from torch, relative to the largest absolute output.

    Returns:
        The file and its difference from torch.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime is not installed.
        OnnxExportError: if the model is a pretraining network or not float32, the input type is unknown, the opset
            cannot be written, or the outputs differ by more than the tolerance.
    """
    _require_onnx()
    _output_names(model)
    if input_type not in ("uint8", "float32"):
        raise OnnxExportError(f"input_type must be 'uint8' or 'float32', got {input_type!r}")
    if opset < OLDEST_OPSET:
        raise OnnxExportError(f"opset must be at least {OLDEST_OPSET}, got {opset}; torch does not write older ones")
    if model.dtype != torch.float32:
        raise OnnxExportError(f"the weights are {model.dtype}; load the model with dtype=torch.float32 to export it")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    training = model.training
    model.eval()
    try:
        difference = _write_checked(model, path, input_type, opset, tolerance)
    finally:
        model.train(training)
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return OnnxReport(path, _output_names(model), difference, size)


def compare_with_torch(
    model: PreTrainedModel, path: str | Path, input_type: str = "uint8", batch_sizes: tuple[int, ...] = (1, 3)
) -> float:
    """Compare the outputs of a model and of its ONNX file for random inputs.

    Args:
        model: the model, in evaluation mode.
        path: its ONNX file.
        input_type: type of the file's frames, `uint8` or `float32`.
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
        inputs = _random_inputs(model, number, input_type)
        exported = _Exported(model, tuple(inputs), names)
        with torch.no_grad():
            expected = [each.cpu().numpy() for each in exported(*(value.to(model.device) for value in inputs.values()))]
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for ours, theirs in zip(expected, map(np.asarray, found), strict=True):
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
    """The outputs to export, by the Auto classes that a model's class is registered with."""
    # A classifier's inner encoder may be of a class that another model type registers.
    names = {
        auto
        for entry in MODELS.values()
        for auto, reference in entry.models.items()
        if str(reference).endswith(f":{type(model).__name__}") or reference is type(model)
    }
    if any(name.endswith("Classification") for name in names):
        return OUTPUTS["classifier"]
    if "AutoModel" in names:
        return OUTPUTS["encoder"]
    raise OnnxExportError(
        f"{type(model).__name__} is neither a classifier nor an encoder of this package; load the checkpoint with "
        "AutoModel or an Auto class for classification"
    )


def _random_inputs(model: PreTrainedModel, number: int, input_type: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {
        name: torch.randint(0, 256, (number, *spec.shape), dtype=torch.uint8, generator=generator)
        if input_type == "uint8" and isinstance(spec, VideoSpec)
        else spec.example(number, generator)
        for name, spec in model_inputs(model.config).items()
    }


def _write_checked(model: PreTrainedModel, path: Path, input_type: str, opset: int, tolerance: float) -> float:
    """Write the file if its outputs are those of torch; their difference."""
    differences: list[float] = []

    def write(file: Path, inline: bool = True) -> None:
        _write(model, file, input_type, opset, inline)
        differences.append(compare_with_torch(model, file, input_type))
        if not differences[0] <= tolerance:
            raise OnnxExportError(
                f"the exported file differs from torch by {differences[0]:.2g} of the largest output, more than "
                f"tolerance={tolerance:g}; try another opset than {opset}, or report the model"
            )

    if sum(each.numel() * each.element_size() for each in model.parameters()) < MAX_INLINE_BYTES:
        write_atomically(path, write)
        return differences[0]
    # The graph contains the name of the weights file, so the two cannot be renamed afterwards.
    try:
        write(path, inline=False)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return differences[0]


def _write(model: PreTrainedModel, path: Path, input_type: str, opset: int, inline: bool) -> None:
    import onnx

    outputs = _output_names(model)
    # Two clips, because torch treats a batch of one as a constant.
    inputs = _random_inputs(model, 2, input_type)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        _Exported(model, tuple(inputs), outputs),
        tuple(value.to(model.device) for value in inputs.values()),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes={"values": tuple({0: batch} for _ in inputs)},
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    # If the exporter cannot convert to the requested opset, it warns and keeps its own.
    if program.model.opset_imports[""] != opset:
        raise OnnxExportError(
            f"opset {opset} was requested and torch {torch.__version__} can only write "
            f"{program.model.opset_imports['']} for this model; choose that"
        )
    program.model.metadata_props.update(_metadata(model, input_type))
    program.save(str(path), external_data=not inline)
    onnx.checker.check_model(str(path))


def _metadata(model: PreTrainedModel, input_type: str) -> dict[str, str]:
    config: Any = model.config
    content: Mapping[str, Any] = {
        "model_type": config.model_type,
        "class": type(model).__name__,
        "input_type": input_type,
        "inputs": {name: {"modality": spec.modality, **asdict(spec)} for name, spec in model_inputs(config).items()},
    }
    if _output_names(model) == OUTPUTS["classifier"]:
        content = {**content, "id2label": config.id2label}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}
