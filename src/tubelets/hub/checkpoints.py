"""The checkpoints that can be published, from which `hub_configs/` and `model_cards/` are made."""

from tubelets.models.common.author_checkpoints import PublishedCheckpoint
from tubelets.models.common.auto import MODELS

CHECKPOINTS: dict[str, PublishedCheckpoint] = {
    checkpoint.name: checkpoint
    for entry in MODELS.values()
    if entry.published is not None
    for checkpoint in entry.load(entry.published)
}
"""By name, every checkpoint that a method's `published_<method>.py` lists."""
