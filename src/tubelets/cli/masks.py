"""Build a bank of coloured noise for cropping masks, and optionally publish it.

A bank is built in seconds and takes tens of megabytes. Runs that name it (`--model.config.mask_bank`) draw from the
same noise and skip building their own. KIND is a colour and a shape, such as green3d or regularized_blue.

  tubelets masks green3d --output_dir banks/green3d
  tubelets masks green3d --output_dir banks/green3d --bank_size 64 --seed 1 --push_to you/green3d-bank
  tubelets masks regularized_blue --output_dir banks/audio --grid 64 8 --mask_ratio 0.8
"""

import argparse
from pathlib import Path

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("kind", metavar="KIND", help="kind of noise")
    verb.add("--output_dir", type=Path, required=True, help="folder of the bank")
    verb.add("--grid", type=int, nargs="+", default=[8, 14, 14], help="token grid")
    verb.add("--mask_ratio", type=float, default=0.9, help="share of masked tokens")
    verb.add("--bank_size", type=int, help="number of patterns or volumes; by default as many as the models build")
    verb.add("--volume_shape", type=int, nargs=3, default=[32, 128, 128], help="sides of a video noise volume")
    verb.add("--seed", type=int, default=0, help="seed of the noise")
    verb.add("--push_to", metavar="OWNER/NAME", help="also upload the bank to this Hub data set")
    verb.add("--private", action="store_true", help="create a private data set")


def run(options: argparse.Namespace) -> int:
    """Build the bank, and publish it if asked for.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.hub.mask_banks import publish_bank
    from tubelets.masking import NoiseMaskGenerator
    from tubelets.models.common.mask_banks import save_mask_bank

    generator = NoiseMaskGenerator(
        options.kind,
        tuple(options.grid),
        options.mask_ratio,
        bank_size=options.bank_size,
        volume_shape=tuple(options.volume_shape),
        seed=options.seed,
    )
    file = save_mask_bank(generator, options.output_dir)
    print(f"wrote {file} ({file.stat().st_size / 2**20:.1f} MB)")
    if options.push_to:
        print(f"pushed {publish_bank(file, generator, options.push_to, options.private)}")
    return 0
