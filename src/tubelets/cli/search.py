"""Find the videos of a collection that resemble an example.

The collection is a file of `tubelets embed`; the example is a video file, or the clip_id of one of its videos.

Examples:
  tubelets search features.parquet clip.mp4
  tubelets search features.parquet run/0001.mp4 --k 5 --json
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tubelets.cli.parser import Verb

if TYPE_CHECKING:
    from torch import Tensor

    from tubelets.evaluation.embedding import Embeddings


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("embeddings", metavar="FILE", help="file of `tubelets embed`")
    verb.add("query", metavar="QUERY", help="a video or sound file, or a clip_id of the collection")
    verb.add("--k", type=int, default=10, help="videos to show")
    verb.add("--checkpoint", help="the model of the collection, if it has moved")
    verb.add("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Search.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.evaluation.embedding import Embeddings

    bank = Embeddings.read(options.embeddings)
    known = any(row["clip_id"] == options.query for row in bank.rows)
    queries = bank.of(options.query) if known else _features_of(options, bank)
    hits = bank.search(queries, options.k, exclude=options.query if known else None)
    if options.json:
        print(json.dumps(hits, indent=2))
        return 0
    for hit in hits:
        time = "" if hit["start"] is None else f"  {hit['start']:.1f} to {hit['end']:.1f} s"
        label = f"  {hit['label']}" if hit.get("label") else ""
        print(f"{hit['score']:+.3f}  {hit['clip_id']}{time}{label}")
    return 0


def _features_of(options: argparse.Namespace, bank: "Embeddings") -> "Tensor":
    """Features of a file, made as those of the collection."""
    import tempfile

    from transformers import AutoModel

    from tubelets.data.sources.opening import open_source
    from tubelets.evaluation.checkpoints import load_processor
    from tubelets.evaluation.devices import evaluation_device
    from tubelets.evaluation.embedding import Embeddings, embed
    from tubelets.evaluation.features import model_fingerprint
    from tubelets.evaluation.inputs import processor_inputs
    from tubelets.models.backbones.adapters import as_backbone
    from tubelets.models.common.safe_loading import load_model

    if not Path(options.query).is_file():
        raise FileNotFoundError(f"{options.query} is neither a file nor a clip_id of {options.embeddings}")
    checkpoint = options.checkpoint or bank.settings["checkpoint"]
    model = load_model(AutoModel, checkpoint).to(evaluation_device())
    if model_fingerprint(as_backbone(model)) != bank.settings["model"]:
        raise ValueError(f"{checkpoint} is not the model that {options.embeddings} was made with; give --checkpoint")
    frames = {name: bank.settings[name] for name in ("sampling", "stride")}
    inputs = processor_inputs(load_processor(checkpoint), model.config, **frames)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "query.parquet"
        embed(model, open_source(options.query, split=None), inputs, file, progress=False)
        return Embeddings.read(file).features
