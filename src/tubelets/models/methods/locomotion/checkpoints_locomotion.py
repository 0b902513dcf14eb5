"""LocoMotion's paper; its authors published no weights (locomotion.md, section 5)."""

from tubelets.models.common.author_checkpoints import Paper

PAPER = Paper(
    "2410.12018",
    "Hazel Doughty, Fida Mohammad Thoker, Cees Snoek",
    "LocoMotion: Learning Motion-Focused Video-Language Representations",
    "ACCV 2024",
)
