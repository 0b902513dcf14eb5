"""Tubelet-Contrast's published checkpoints; numbers from the project page's tables (tubelet_contrast.md, 8 and 10)."""

import functools

from tubelets.models.common.author_checkpoints import AuthorCheckpoint, Paper
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig

PAPER = Paper(
    "2303.11003",
    "Fida Mohammad Thoker, Hazel Doughty, Cees Snoek",
    "Tubelet-Contrastive Self-Supervision for Video-Efficient Generalization",
    "ICCV 2023",
)
# File ids of the authors' drive, from the repository's model zoo; Kinetics-400 entries were never filled in.
FILES = {
    "r2plus1d_18": "1HXIMHWBn8vGkZDqmk2EvgdXJnZWyTDRz",
    "r3d_18": "1LjbtCP2ideFcn5qHyIngFEFxAzOlI2_f",
    "i3d": "1hOR1NsgfTrh4BtY02TUbyv_Cg77NQd3C",
}
SEVERE = {
    "Something-Something V2, top-1": 59.4,
    "Gym-99, top-1": 92.2,
    "UCF-101 with 1000 videos, top-1": 65.5,
    "Gym-99 with 1000 videos, top-1": 48.0,
    "FX-S1, mean class accuracy": 78.3,
    "UB-S1, mean class accuracy": 90.9,
    "UCF-RC, mean error of the count": 0.150,
    "Charades, mAP": 9.0,
}


def _config(backbone: str) -> TubeletContrastConfig:
    return TubeletContrastConfig(backbone=backbone, architectures=["TubeletContrastForPreTraining"])


def _checkpoint(backbone: str, title: str) -> AuthorCheckpoint:
    measured = backbone == "r2plus1d_18"
    return AuthorCheckpoint(
        name=f"tubelet-contrast-{backbone.replace('_', '-')}-mini-kinetics",
        make_config=functools.partial(_config, backbone),
        paper=PAPER,
        source=f"Google Drive file `{FILES[backbone]}`, linked from the authors' repository",
        converter="tubelets.models.methods.tubelet_contrast.conversion_tubelet_contrast",
        not_in_file="temperature nor momentum",
        pretraining_data="mini_kinetics",
        training=(
            f"Tubelet-Contrast by the authors on Mini-Kinetics: {title} identifies pairs of clips of different videos, "
            "over which the same patches move, among 16,384 older keys; 100 of 200 planned epochs."
        ),
        settings={"queue": 16384, "temperature": 0.2, "momentum": 0.999, "epsilon of batch norm": _epsilon(backbone)},
        stride=2,
        objective="contrastive-learning",
        after_finetuning=SEVERE if measured else {},
        after_finetuning_source=(
            "[figures of the project page](https://fmthoker.github.io/tubelet-contrastive-learning), SEVERE protocol"
            if measured
            else ""
        ),
    )


def _epsilon(backbone: str) -> float:
    return float(_config(backbone).backbone_config.batch_norm_eps)


CHECKPOINTS = [_checkpoint("r2plus1d_18", "R(2+1)D-18"), _checkpoint("r3d_18", "R3D-18"), _checkpoint("i3d", "I3D")]
