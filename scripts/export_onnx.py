"""Export a classifier or an encoder as ONNX, and verify its outputs against torch.

Needs `pip install 'tubelets[onnx]'`. By default the exported model accepts raw uint8 frames (batch, frames, 3, height,
width) of the model's size and normalises them itself.

Examples:
  python scripts/export_onnx.py runs/k400-finetuned model.onnx
  python scripts/export_onnx.py user/sigma-base features.onnx --features --input float32
"""

import argparse
import json
import sys

import transformers

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.hub.card_tasks import task_of
from tubelets.hub.onnx_export import OLDEST_OPSET, OnnxExportError, export_onnx
from tubelets.models.common.safe_loading import load_config, load_model


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("output", help="the .onnx file to write")
    parser.add_argument("--revision", default="main", help="branch, tag or commit of a checkpoint on the Hub")
    parser.add_argument("--features", action="store_true", help="export the encoder of a classifier")
    parser.add_argument(
        "--input", choices=["uint8", "float32"], default="uint8", help="raw (uint8) or normalised (float32) frames"
    )
    parser.add_argument("--opset", type=int, default=OLDEST_OPSET, help="ONNX opset version")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest accepted relative difference from torch")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parse_arguments(arguments)
    try:
        config = load_config(options.checkpoint, revision=options.revision)
        task = None if options.features else task_of(config)
        auto_class = getattr(transformers, "AutoModel" if task is None else task.auto_class)
        model = load_model(auto_class, options.checkpoint, revision=options.revision, dtype="float32")
        report = export_onnx(model, options.output, options.input, options.opset, options.tolerance)
    except (ImportError, OnnxExportError, OSError, ValueError) as error:
        print(f"export_onnx: {error}", file=sys.stderr)
        return 2
    print(
        json.dumps(
            {
                "file": str(report.path),
                "class": type(model).__name__,
                "outputs": report.outputs,
                "relative_difference_from_torch": report.difference,
                "bytes": report.num_bytes,
            },
            indent=2,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
