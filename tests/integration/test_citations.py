"""Every citation of a specification, such as `sigma.md, section 4`, leads to a page of docs/specs with that section."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "docs" / "specs"
CITING = ("src", "tests", "training", "scripts", "model_cards", "docs")
SUFFIXES = {".py", ".yaml", ".json", ".md"}
NUMBER = r"\d+(?:\.\d+)*"
# `sections 2, 6 and 7`, `section 5.3-5.4`, and without the word: `smile.md 4.2-4.5`, `tubelet_contrast.md, 8 and 10`.
CITATION = re.compile(rf"\b(\w+)\.md`?,? (?:sections? )?({NUMBER}(?:(?:, | and |, and |-| to ){NUMBER})*)(?![\w%])")
# Cases of a folder named like a page give the section alone.
CASE = re.compile(rf'"spec": "sections? ({NUMBER}(?:(?:, | and | to ){NUMBER})*)')


def sections_of(page: Path) -> set[str]:
    """The numbers of a page's headings."""
    return set(re.findall(rf"^#+ ({NUMBER})\.? ", page.read_text(encoding="utf-8"), flags=re.MULTILINE))


def expand(numbers: str) -> list[str]:
    """Every section that `2, 6 and 7` or `4.2-4.5` names."""
    sections: list[str] = []
    for part in re.split(r", and |, | and ", numbers):
        first, *last = re.split(r"-| to ", part)
        *chapter, start = first.split(".")
        end = last[0].split(".")[-1] if last else start
        sections += [".".join([*chapter, str(number)]) for number in range(int(start), int(end) + 1)]
    return sections


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of page and section; a citation may be wrapped over two lines of a comment."""
    for page, numbers in CITATION.findall(re.sub(r"\s*\n\s*(?:# ?)?", " ", text)):
        for section in expand(numbers):
            yield page, section


def wrong_citations(text: str, pages: dict[str, set[str]]) -> list[str]:
    """The citations of a text that lead nowhere."""
    return [f"{page}.md, section {section}" for page, section in citations(text) if section not in pages.get(page, ())]


@pytest.fixture(scope="module")
def pages() -> dict[str, set[str]]:
    return {page.stem: sections_of(page) for page in SPECS.glob("*.md") if page.stem != "README"}


def citing_files() -> list[Path]:
    found = [path for folder in CITING for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return [path for path in [*found, *ROOT.glob("*.md")] if path != Path(__file__).resolve()]


def test_citations_lead_to_sections(pages: dict[str, set[str]]) -> None:
    wrong, count = [], 0
    for path in citing_files():
        text = path.read_text(encoding="utf-8")
        count += sum(1 for _ in citations(text))
        wrong += [f"{path.relative_to(ROOT)}: {citation}" for citation in wrong_citations(text, pages)]
    assert not wrong, "\n".join(wrong)
    assert count > 200


def test_cases_lead_to_sections(pages: dict[str, set[str]]) -> None:
    for path in (ROOT / "tests" / "golden" / "cases").rglob("*.json"):
        for numbers in CASE.findall(path.read_text(encoding="utf-8")):
            missing = set(expand(numbers)) - pages[path.parent.name]
            assert not missing, f"{path.name} cites {missing} of {path.parent.name}.md"


def test_every_page_is_listed() -> None:
    index = (SPECS / "README.md").read_text(encoding="utf-8")
    for page in SPECS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Source: sigma.md, section 1.", []),
        ("Source: sigma.md, section 99.", ["sigma.md, section 99"]),
        ("(sigma.md, sections 1, 3 and 99)", ["sigma.md, section 99"]),
        ("nowhere.md, section 1", ["nowhere.md, section 1"]),
        ("sigma.md 2.1-2.3", ["sigma.md, section 2.3"]),
        ("sigma.md, 1 and 4", ["sigma.md, section 4"]),
        ("sigma.md, sections 1 to 4", ["sigma.md, section 4"]),
        ("sigma.md section 2.1 and 2.7", ["sigma.md, section 2.7"]),
        ("# by the protocol (sigma.md, section\n# 99; sigma.md, section 1)", ["sigma.md, section 99"]),
        ("the page sigma.md, 16 frames", ["sigma.md, section 16"]),
        ("sigma.md says so", []),
    ],
)
def test_checker_finds_what_does_not_exist(text: str, wrong: list[str]) -> None:
    assert wrong_citations(text, {"sigma": {"1", "2", "2.1", "2.2", "3"}}) == wrong
