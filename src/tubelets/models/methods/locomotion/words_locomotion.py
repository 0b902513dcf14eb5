"""Tokenizers of captions, and the text that they get (locomotion.md, section 3.5)."""

import re
from importlib import resources
from typing import Any

from tubelets.models.common.safe_loading import load_processor

MOTION_WORDS = "motion_words"
"""Name of the package's own vocabulary; see `open_tokenizer`."""

_REMOVED = re.compile(r"[,.'!?\"()*#:;~]")
_SPACES = re.compile(r"[-/]|\s+")


def clean_text(text: str) -> str:
    """Text as the base frameworks prepare it for BERT: lower case, without punctuation.

    Args:
        text: a caption.

    Returns:
        Words with single spaces.

    Example:
        >>> clean_text('A <person> throws  a well-known "ball".')
        'a person throws a well known ball'

    Source: locomotion.md, section 3.5.
    """
    plain = _REMOVED.sub("", text.lower()).replace("<person>", "person")
    return " ".join(_SPACES.sub(" ", plain).split())


def open_tokenizer(name: str) -> Any:
    """Open a tokenizer.

    Args:
        name: a folder or Hub id, or `motion_words`: WordPiece over the words of motion captions, the names of the
            package's objects, and single letters, of which other words are spelled. It needs no download.

    Returns:
        A tokenizer of transformers with padding, [CLS], [SEP] and [MASK].

    Raises:
        OSError: if there is no tokenizer of that name.

    Example:
        >>> tokenizer = open_tokenizer("motion_words")
        >>> tokenizer.tokenize("a bear glides ux")
        ['a', 'bear', 'glides', 'u', '##x']
    """
    # Imported here: it reads the files of every tokenizer that transformers has.
    from transformers import AutoTokenizer, BertTokenizer

    if name != MOTION_WORDS:
        return load_processor(name, AutoTokenizer)
    words = resources.files(__package__).joinpath("motion_words.txt").read_text(encoding="utf-8").split("\n")
    return BertTokenizer(vocab={word: place for place, word in enumerate(word for word in words if word)})
