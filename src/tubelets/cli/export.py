"""Export a classifier or an encoder as ONNX, and verify its outputs against torch.

Needs `pip install 'tubelets[onnx]'`. By default the exported model accepts raw uint8 frames (batch, frames, 3, height,
width) of the model's size and normalises them itself.

  tubelets export runs/k400-finetuned model.onnx
  tubelets export user/sigma-base features.onnx --features --input float32
"""

import argparse
import json

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("checkpoint", metavar="CHECKPOINT", help="folder or Hub id")
    verb.add("output", metavar="FILE", help="the .onnx file to write")
    verb.add("--revision", default="main", help="branch, tag or commit of a checkpoint on the Hub")
    verb.add("--features", action="store_true", help="export the encoder of a classifier")
    text = "raw (uint8) or normalised (float32) frames"
    verb.add("--input", choices=["uint8", "float32"], default="uint8", help=text)
    verb.add("--opset", type=int, help="ONNX opset version; by default the oldest that torch writes")
    verb.add("--tolerance", type=float, default=1e-4, help="largest accepted relative difference from torch")


def run(options: argparse.Namespace) -> int:
    """Export and print a report.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    import transformers

    from tubelets.hub.card_tasks import task_of
    from tubelets.hub.onnx_export import export_onnx
    from tubelets.models.common.safe_loading import load_config, load_model

    config = load_config(options.checkpoint, revision=options.revision)
    task = None if options.features else task_of(config)
    auto_class = getattr(transformers, "AutoModel" if task is None else task.auto_class)
    model = load_model(auto_class, options.checkpoint, revision=options.revision, dtype="float32")
    chosen = {} if options.opset is None else {"opset": options.opset}
    report = export_onnx(model, options.output, options.input, tolerance=options.tolerance, **chosen)
    content = {
        "file": str(report.path),
        "class": type(model).__name__,
        "outputs": report.outputs,
        "relative_difference_from_torch": report.difference,
        "bytes": report.num_bytes,
    }
    print(json.dumps(content, indent=2))
    return 0
