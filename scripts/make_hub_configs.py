"""Generate `hub_configs/` and `model_cards/` from the records of the authors' checkpoints.

Example:
    python scripts/make_hub_configs.py
"""

import argparse
import json
from pathlib import Path

from tubelets.hub.author_cards import author_checkpoints, render_author_card
from tubelets.models.common.auto import inference_processor

ROOT = Path(__file__).resolve().parent.parent


def write_all(root: Path) -> None:
    """Write every configuration, processor and card below `root`."""
    (root / "model_cards").mkdir(parents=True, exist_ok=True)
    for name, checkpoint in author_checkpoints().items():
        folder = root / "hub_configs" / name
        config = checkpoint.config()
        config.save_pretrained(folder)
        inference_processor(config).save_pretrained(folder)
        # The version of transformers that wrote a file is not a property of the checkpoint.
        path = folder / "config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("transformers_version", None)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (root / "model_cards" / f"{name}.md").write_text(render_author_card(checkpoint), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="parent of hub_configs/ and model_cards/")
    arguments = parser.parse_args()
    write_all(arguments.root)
    print(f"wrote {len(author_checkpoints())} configurations and cards below {arguments.root}")


if __name__ == "__main__":
    main()
