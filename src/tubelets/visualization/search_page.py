"""A page with the clips that a search found: scores, times and a strip of frames of each, in one file."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tubelets.data.atomic import write_atomically

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { line-height: 1.2; } ol { padding-left: 1.5rem; }
li { margin: 1rem 0; padding-bottom: .5rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; border-radius: 6px; display: block; }
.score { font-variant-numeric: tabular-nums; opacity: .8; }
"""


def result_list(hits: Sequence[Mapping[str, Any]], strips: Sequence[bytes | None]) -> str:
    """The clips that were found as an HTML list; pictures are inside of it.

    Args:
        hits: mappings with `clip_id`, `score`, `start` and `end` (seconds or None), and `label` and `caption` if known.
        strips: JPEG of each, or None.

    Returns:
        HTML in which everything that comes from the data is escaped.

    Raises:
        ValueError: if the numbers of clips and pictures differ.

    Example:
        >>> hit = {"clip_id": "<a>.mp4", "score": 0.5, "start": 1.0, "end": 2.0}
        >>> "&lt;a&gt;.mp4" in result_list([hit], [None])
        True
    """
    items = []
    for hit, strip in zip(hits, strips, strict=True):
        time = "" if hit["start"] is None else f", {hit['start']:.1f} to {hit['end']:.1f} s"
        said = ", ".join(str(hit[name]) for name in ("label", "caption") if hit.get(name))
        picture = ""
        if strip is not None:
            address = f"data:image/jpeg;base64,{base64.b64encode(strip).decode()}"
            picture = f"<img src='{address}' alt='frames of {html.escape(str(hit['clip_id']), quote=True)}'>"
        text = html.escape(f"{hit['clip_id']}{time}" + (f": {said}" if said else ""))
        items.append(f"<li>{picture}{text} <span class='score'>{hit['score']:+.3f}</span></li>")
    return f"<ol>{''.join(items)}</ol>"


def save_search_page(
    query: str, hits: Sequence[Mapping[str, Any]], strips: Sequence[bytes | None], path: str | Path
) -> Path:
    """Write the page.

    Args:
        query: heading.
        hits: see `result_list`.
        strips: see `result_list`.
        path: HTML file.

    Returns:
        The path.
    """
    title = html.escape(query)
    content = (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style><body><h1>{title}</h1>{result_list(hits, strips)}</body></html>"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write_text(content, encoding="utf-8"))
    return path
