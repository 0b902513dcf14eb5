"""Build a bank of coloured noise for cropping masks, and optionally publish it.

A bank is built in seconds and takes tens of megabytes. Runs that name it (`--model.config.mask_bank`) draw from the
same noise and skip building their own.

Examples:
  python scripts/make_mask_bank.py green3d banks/green3d
  python scripts/make_mask_bank.py green3d banks/green3d --bank-size 64 --seed 1 --push-to you/green3d-bank
  python scripts/make_mask_bank.py regularized_blue banks/audio --grid 64 8 --mask-ratio 0.8
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tubelets.masking import NOISE_TYPES, NoiseMaskGenerator
from tubelets.models.common.mask_banks import FILE, save_mask_bank

CARD = """---
license: apache-2.0
tags: [tubelets, masked-video-modelling]
---

# A bank of {kind} noise

Masks for masked video or audio modelling are cropped from it by
`tubelets.models.common.mask_banks.load_mask_bank("{repository}", grid, mask_ratio)`.
Made by `scripts/make_mask_bank.py` with seed {seed}: {bank_size} patterns.
"""


def push(file: Path, generator: NoiseMaskGenerator, repository: str, private: bool) -> str:
    """Upload the bank and its card to a Hub data set in one commit; return its URL."""
    card = CARD.format(kind=generator.kind, repository=repository, seed=generator.seed, bank_size=generator.bank_size)
    (file.parent / "README.md").write_text(card, encoding="utf-8")
    api = HfApi()
    api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
    commit = api.upload_folder(
        folder_path=file.parent, repo_id=repository, repo_type="dataset", allow_patterns=[FILE, "README.md"]
    )
    return commit.commit_url


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=NOISE_TYPES)
    parser.add_argument("output", type=Path, help="folder of the bank")
    parser.add_argument("--grid", type=int, nargs="+", default=[8, 14, 14], help="token grid (default: 8 14 14)")
    parser.add_argument("--mask-ratio", type=float, default=0.9)
    parser.add_argument("--bank-size", type=int, help="number of patterns or volumes")
    parser.add_argument(
        "--volume-shape", type=int, nargs=3, default=[32, 128, 128], help="sides of a video noise volume"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--push-to", metavar="OWNER/NAME", help="also upload the bank to this Hub data set")
    parser.add_argument("--private", action="store_true", help="create a private data set")
    options = parser.parse_args(arguments)
    try:
        generator = NoiseMaskGenerator(
            options.kind,
            tuple(options.grid),
            options.mask_ratio,
            bank_size=options.bank_size,
            volume_shape=tuple(options.volume_shape),
            seed=options.seed,
        )
    except ValueError as error:
        print(f"make_mask_bank: {error}", file=sys.stderr)
        return 2
    file = save_mask_bank(generator, options.output)
    print(f"wrote {file} ({file.stat().st_size / 2**20:.1f} MB)")
    if options.push_to:
        try:
            print(f"pushed {push(file, generator, options.push_to, options.private)}")
        except (HfHubHTTPError, OSError) as error:
            print(f"make_mask_bank: not pushed to {options.push_to}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
