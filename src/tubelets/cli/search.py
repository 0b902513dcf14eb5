"""Find the videos of a collection by a sentence or an example, or the sentences that fit a video.

The collection is a file of `tubelets embed`. QUERY is a sentence, if its checkpoint reads texts (see `tubelets join`);
a video or sound file; or the clip_id of one of its videos. With --sentences the lines of a text file are ranked for a
video instead. --html writes a page with a strip of frames of each clip, if the collection was made with --strip_frames;
--serve shows the collection on a page of this machine, where sentences can be typed (needs `tubelets[search]`).

Examples:
  tubelets embed runs/retrieval films index.parquet --windows 20 --strip_frames 4
  tubelets search index.parquet "a bird flies to the left" --html found.html
  tubelets search index.parquet clip.mp4
  tubelets search index.parquet run/0001.mp4 --k 5 --json
  tubelets search index.parquet clip.mp4 --sentences captions.txt
  tubelets search index.parquet --serve
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubelets.cli.parser import Verb

if TYPE_CHECKING:
    from torch import Tensor

    from tubelets.evaluation.embedding import Embeddings


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("embeddings", metavar="FILE", help="file of `tubelets embed`")
    verb.add("query", metavar="QUERY", nargs="?", help="a sentence, a video or sound file, or a clip_id of FILE")
    verb.add("--k", type=int, default=10, help="videos, or sentences, to show")
    verb.add("--sentences", type=Path, help="text file with a sentence a line; rank them for a video")
    faiss = "approximate search, index beside FILE; pays from 500,000 windows on if FILE is searched often"
    verb.add("--faiss", action="store_true", help=faiss)
    verb.add("--checkpoint", help="the model of the collection, if it has moved")
    verb.add("--html", type=Path, help="also write a page with pictures of what was found")
    verb.add("--json", action="store_true", help="print JSON")
    verb.add("--serve", action="store_true", help="show a page with a search field, until interrupted")
    verb.add("--port", type=int, help="port of that page on this machine; by default the first free one from 7860 on")


def run(options: argparse.Namespace) -> int:
    """Search.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.evaluation.embedding import Embeddings

    bank = Embeddings.read(options.embeddings)
    if options.serve:
        from tubelets.evaluation.search_page import serve

        serve(bank, _checkpoint(options, bank), k=options.k, port=options.port, approximate=options.faiss)
        return 0
    if options.query is None:
        raise ValueError("give a QUERY: a sentence, a file or a clip_id; or --serve")
    known = any(row["clip_id"] == options.query for row in bank.rows)
    queries = bank.of(options.query) if known else _features_of(options, bank)
    if options.sentences is not None:
        return _show_sentences(options, bank, queries)
    among = None
    if options.faiss:
        from tubelets.evaluation.faiss_index import candidates, open_index

        among = candidates(open_index(bank.features, options.embeddings), queries, options.k)
    hits = bank.search(queries, options.k, exclude=options.query if known else None, among=among)
    if options.html is not None:
        from tubelets.visualization.search_page import save_search_page

        save_search_page(options.query, hits, bank.strips(hits), options.html)
    if options.json:
        print(json.dumps(hits, indent=2))
        return 0
    for hit in hits:
        print(_line(hit))
    if options.html is not None:
        print(f"wrote {options.html}")
    return 0


def _line(hit: dict[str, Any]) -> str:
    """A row of the table in the terminal."""
    time = "" if hit["start"] is None else f"  {hit['start']:.1f} to {hit['end']:.1f} s"
    said = "".join(f"  {hit[name]}" for name in ("label", "caption") if hit.get(name))
    return f"{hit['score']:+.3f}  {hit['clip_id']}{time}{said}"


def _checkpoint(options: argparse.Namespace, bank: "Embeddings") -> str:
    return options.checkpoint or bank.settings["checkpoint"]


def _features_of(options: argparse.Namespace, bank: "Embeddings") -> "Tensor":
    """Features of a file, made as those of the collection, or of a sentence."""
    import tempfile

    from tubelets.data.sources.opening import open_source
    from tubelets.evaluation.checkpoints import load_processor
    from tubelets.evaluation.embedding import Embeddings, embed
    from tubelets.evaluation.features import model_fingerprint
    from tubelets.evaluation.inputs import processor_inputs
    from tubelets.evaluation.joint_space import JointSpaceBackbone, load_backbone
    from tubelets.models.backbones.adapters import as_backbone
    from tubelets.models.common.safe_loading import load_config
    from tubelets.models.common.video_text import embed_texts

    checkpoint = _checkpoint(options, bank)
    is_file = Path(options.query).is_file()
    if not is_file:
        from tubelets.evaluation.joint_space import reads_text

        if options.sentences is not None or not reads_text(load_config(checkpoint)):
            raise FileNotFoundError(
                f"{options.query} is neither a file nor a clip_id of {options.embeddings}, and its model reads no "
                "sentences"
                if options.sentences is None
                else f"{options.query} is neither a file nor a clip_id of {options.embeddings}"
            )
    model = load_backbone(checkpoint)
    if model_fingerprint(as_backbone(model)) != bank.settings["model"]:
        raise ValueError(f"{checkpoint} is not the model that {options.embeddings} was made with; give --checkpoint")
    if not is_file:
        assert isinstance(model, JointSpaceBackbone)
        return embed_texts(model.model, load_processor(checkpoint), [options.query])
    frames = {name: bank.settings[name] for name in ("sampling", "stride")}
    inputs = processor_inputs(load_processor(checkpoint), model.config, **frames)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "query.parquet"
        embed(model, open_source(options.query, split=None), inputs, file, progress=False)
        return Embeddings.read(file).features


def _show_sentences(options: argparse.Namespace, bank: "Embeddings", queries: "Tensor") -> int:
    """Rank the lines of a text file for a video."""
    from tubelets.evaluation.joint_space import text_features
    from tubelets.evaluation.search_page import nearest_sentences

    lines = [line.strip() for line in options.sentences.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{options.sentences} has no sentences; write one a line")
    found = nearest_sentences(queries, text_features(_checkpoint(options, bank), lines), lines, options.k)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for each in found:
        print(f"{each['score']:+.3f}  {each['sentence']}")
    return 0
