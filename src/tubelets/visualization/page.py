"""A page of results as one HTML file beside its pictures, readable on a phone and in the dark."""

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tubelets.data.atomic import write_atomically

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0a7d8c; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { line-height: 1.2; margin-bottom: .2rem; } h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--accent); }
p.lead { font-size: 1.1rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; height: auto; border-radius: 6px; background: #fff; } img.pixels { min-width: min(100%, 22rem); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
pre { background: var(--soft); padding: .8rem; border-radius: 6px; overflow-x: auto; }
"""


class Page:
    """Headings, text, tables, pictures and commands, in the order they are added.

    Args:
        title: of the page.
        lead: a sentence or two below it.

    Example:
        >>> import tempfile
        >>> page = Page("Two runs", "Both learned something.")
        >>> page.heading("Scores")
        >>> page.table(["model", "top-1"], [["ours", "62 %"]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     "<td>62 %" in page.save(Path(folder) / "index.html").read_text()
        True
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>", f"<p class='lead'>{html.escape(lead)}</p>"]
        self._pictures: list[tuple[int, Path, str]] = []

    def heading(self, text: str) -> None:
        """Add a heading."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def commands(self, lines: Mapping[str, str]) -> None:
        """Add commands, each after a line that says what it does.

        Args:
            lines: descriptions to commands.
        """
        content = "\n\n".join(f"# {text}\n{command}" for text, command in lines.items())
        self._parts.append(f"<pre>{html.escape(content)}</pre>")

    def table(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table.

        Args:
            names: of the columns.
            rows: one cell for each column.
        """
        head = "".join(f"<th>{html.escape(name)}" for name in names)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows)
        self._parts.append(f"<div class='scroll'><table><tr>{head}{body}</table></div>")

    def picture(self, path: str | Path, caption: str) -> None:
        """Add a picture; animations are shown at least as wide as a phone, since their frames are small.

        Args:
            path: the file; the page names it relative to itself.
            caption: text below it, and for those who cannot see it.
        """
        self._pictures.append((len(self._parts), Path(path), caption))
        self._parts.append("")

    def save(self, path: str | Path) -> Path:
        """Write the page.

        Args:
            path: HTML file.

        Returns:
            The path.
        """
        path = Path(path)
        parts = list(self._parts)
        for place, picture, caption in self._pictures:
            address = html.escape(Path(os.path.relpath(picture, path.parent)).as_posix(), quote=True)
            text, kind = html.escape(caption, quote=True), " class='pixels'" if picture.suffix == ".gif" else ""
            parts[place] = f"<figure><img{kind} src='{address}' alt='{text}'><figcaption>{text}</figcaption></figure>"
        content = (
            "<!doctype html><html lang='en'><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
        )
        write_atomically(path, lambda file: file.write_text(content, encoding="utf-8"))
        return path
