"""Convert an authors' weight file to a folder that from_pretrained loads.

Nothing in the file is executed. Every weight of the model comes from the file, and the model is converted back and
compared bit by bit before anything is written.

Examples:
  tubelets convert smile-vit-base-k400-600 --output_dir checkpoints/smile     # fetched from the Hub
  tubelets convert official.pth --output_dir checkpoints/sigma --name sigma-mlp-vit-base-k400
"""

import argparse

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("weights", metavar="WEIGHTS", help="name of `tubelets list`, weight file, or hf://owner/name/path")
    verb.add("--output_dir", required=True, help="new folder for the checkpoint")
    verb.add("--name", help="the checkpoint of `tubelets list` that a file is; adds what weights do not show")
    verb.add("--token", help="access token of a private repository; default: that of `hf auth login`")


def run(options: argparse.Namespace) -> int:
    """Convert.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.hub.converting import convert

    done = convert(options.weights, options.output_dir, options.name, options.token)
    left_out = f"; {done.left_out} others are not part of the model" if done.left_out else ""
    print(
        f"wrote {done.folder}: {done.model_class} ({done.layout}), {done.weights} weights, equal after conversion and "
        f"back{left_out}"
    )
    return 0
