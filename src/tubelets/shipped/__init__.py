"""Files that are shipped beside the code: recipes, accelerate files, studies, training scripts, Hub configurations.

In the repository they are where a reader looks for them, in `training/` and `hub_configs/`. Building a wheel copies
both folders into this package, so that a user of the wheel has them too. The functions find them in either place.
"""

import ast
import difflib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("training", "hub_configs")
"""Folders of the repository that a wheel contains; `setup.py` reads this line."""


@dataclass(frozen=True)
class ShippedFile:
    """A file to copy and edit.

    Attributes:
        name: as users name it: of a recipe without its ending.
        kind: `recipe`, `accelerate`, `study` or `script`.
        path: where it is.
    """

    name: str
    kind: str
    path: Path

    @property
    def summary(self) -> str:
        """The first sentence of its comment or documentation.

        Example:
            >>> find("run_pretraining").summary
            'Pretrain a model of this package from a recipe; read it from top to bottom, copy it, change it.'
        """
        text = self.path.read_text(encoding="utf-8")
        if self.path.suffix == ".py":
            text = ast.get_docstring(ast.parse(text)) or ""
        else:
            comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
            text = " ".join(line.removeprefix("#").strip() for line in comment)
        return re.split(r"(?<=[.?])\s|\n\n", text)[0]


def root() -> Path:
    """The folder that holds `FOLDERS`: this package of a wheel, or the repository.

    Raises:
        FileNotFoundError: if neither has them, as after copying `src` alone.

    Example:
        >>> (root() / "training" / "recipes" / "sigma_tiny_demo.yaml").is_file()
        True
    """
    here = Path(__file__).resolve().parent
    for folder in (here, here.parents[2]):
        if (folder / "training" / "recipes").is_dir():
            return folder
    raise FileNotFoundError(
        f"no recipes beside the package in {here.parent}; install a wheel of tubelets, or the whole repository"
    )


def files() -> dict[str, ShippedFile]:
    """The files to copy and edit, by name.

    Example:
        >>> sorted({file.kind for file in files().values()})
        ['accelerate', 'recipe', 'script', 'study']
    """
    training = root() / "training"
    patterns = {"recipe": "recipes/*.yaml", "accelerate": "accelerate/*.yaml", "study": "studies/*.yaml"}
    found = [
        ShippedFile(path.stem, kind, path)
        for kind, pattern in {**patterns, "script": "run_*.py"}.items()
        for path in sorted(training.glob(pattern))
    ]
    return {file.name: file for file in found}


def find(name: str | Path, *kinds: str) -> ShippedFile:
    """A shipped file by name.

    Args:
        name: with or without its ending and the folders that it has in the repository.
        *kinds: kinds to look among; by default all.

    Raises:
        FileNotFoundError: with the nearest name, if there is none.

    Example:
        >>> find("training/recipes/sigma_tiny_demo.yaml").name
        'sigma_tiny_demo'
    """
    known = {key: file for key, file in files().items() if not kinds or file.kind in kinds}
    stem = Path(name).stem
    if stem in known and (len(Path(name).parts) == 1 or known[stem].path.match(str(name))):
        return known[stem]
    close = difflib.get_close_matches(stem, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    what = " or ".join(kinds) or "file"
    raise FileNotFoundError(f"no {what} {str(name)!r} here or in the package{hint} (`tubelets copy` lists them)")


def resolve(name: str | Path, *kinds: str) -> Path:
    """The path of a file that is named by its path or, if none is there, by the name of a shipped one.

    Args:
        name: a path, or a name as in `find`.
        *kinds: kinds of shipped files to look among.

    Raises:
        FileNotFoundError: with the nearest name, if there is neither.

    Example:
        >>> resolve("sigma_tiny_demo", "recipe").name
        'sigma_tiny_demo.yaml'
    """
    path = Path(name)
    return path if path.is_file() else find(name, *kinds).path
