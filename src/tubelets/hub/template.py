"""The template of model cards, and rendering."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

ENCODER_TAG = "feature-extraction"
"""Pipeline tag of encoders and pretraining networks: the Hub has no tag for features of videos alone."""


@dataclass(frozen=True)
class CardSections:
    """The sections of the template; empty sections are omitted."""

    title: str
    status: str
    use: str
    outputs: str
    training: str
    settings: Mapping[str, Any]
    results: str
    limits: str
    citation: str
    conversion: str = ""
    trained_on: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


def render(metadata: ModelCardData, card: CardSections) -> str:
    """Render a card.

    Args:
        metadata: the YAML block.
        card: the sections.

    Returns:
        Markdown that ends with one newline.
    """
    template = resources.files("tubelets.hub") / "templates" / "model_card.md"
    fields = asdict(card) | {"settings": {name: _rounded(value) for name, value in card.settings.items()}}
    text = str(ModelCard.from_template(metadata, template_str=template.read_text(encoding="utf-8"), **fields))
    return text.rstrip() + "\n"


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
