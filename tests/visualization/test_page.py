"""A page shows what it was given, escaped, with pictures relative to itself."""

from html.parser import HTMLParser
from pathlib import Path

from tubelets.visualization.page import Page


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_everything_is_on_the_page_in_order(tmp_path: Path) -> None:
    page = Page("<b> & c", "first")
    page.heading("Scores")
    page.table(["model", "kNN"], [["ours <1>", "62 %"], ["random", "18 %"]])
    page.picture(tmp_path / "pictures" / "it's.gif", "two 'clips'")
    page.picture(tmp_path / "scores.png", "bars")
    page.commands({"look": "tubelets gallery masks --output_dir a&b"})
    page.text("last")
    saved = page.save(tmp_path / "index.html")
    reader = Reader()
    reader.feed(saved.read_text(encoding="utf-8"))
    assert [picture["src"] for picture in reader.pictures] == ["pictures/it's.gif", "scores.png"]
    assert [picture["alt"] for picture in reader.pictures] == ["two 'clips'", "bars"]
    assert [picture.get("class") for picture in reader.pictures] == ["pixels", None]
    text = "".join(reader.words)
    order = ["<b> & c", "first", "Scores", "ours <1>", "62 %", "two 'clips'", "bars", "--output_dir a&b", "last"]
    places = [text.rindex(word) for word in order]
    assert places == sorted(places)
    assert "b" not in reader.tags
    assert "meta" in reader.tags
