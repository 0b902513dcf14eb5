"""The checkpoints that can be published, from which `hub_configs/` and `model_cards/` are made."""

from tubelets.models.common.author_checkpoints import AuthorCheckpoint
from tubelets.models.common.auto import MODELS

CHECKPOINTS: dict[str, AuthorCheckpoint] = {
    checkpoint.name: checkpoint
    for entry in MODELS.values()
    if entry.author_checkpoints is not None
    for checkpoint in entry.load(entry.author_checkpoints)
}
"""By name, every checkpoint that a method's `checkpoints_<method>.py` lists."""
