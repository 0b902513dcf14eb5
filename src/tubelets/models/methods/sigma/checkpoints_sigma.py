"""SIGMA's published checkpoints; numbers from the paper's tables (sigma.md, section 9)."""

import functools
from typing import Any

from tubelets.models.common.author_checkpoints import DATASETS, SIZES, AuthorCheckpoint, Paper, classifier_fields
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig

PAPER = Paper(
    "2407.15447",
    "Mohammadreza Salehi et al.",
    "SIGMA: Sinkhorn-Guided Masked Video Modeling",
    "ECCV 2024",
)

# The files that the official scripts name; the others of the repository are not known.
DOWNLOADS = {
    f"sigma-dino-vit-base-{data}": f"hf://SMSD75/SIGMA/pretrain/{folder}/{prefix}_vit_b_sigma_with_dino.pth"
    for data, folder, prefix in (("k400", "kinetics-400", "kinetics_400"), ("ssv2", "ssv2", "ssv2"))
}


def _config(target: str, size: str, data: str, finetuning_data: str | None) -> SigmaConfig:
    # The official script for ViT-B on Something-Something V2 is the only one with 0.03 (sigma.md, section 4).
    sharp = size == "base" and data == "ssv2"
    fields: dict[str, Any] = {
        **SIZES[size],
        "target_type": "dino_v1" if target == "dino" else "mlp",
        "sinkhorn_epsilon": 0.03 if sharp else 0.05,
        "architectures": ["SigmaForPreTraining"],
    }
    if finetuning_data is not None:
        fields |= classifier_fields(finetuning_data, "SigmaForVideoClassification")
    return SigmaConfig(**fields)


def _training(target: str, size: str, data: str, epochs: int) -> str:
    grouped = "features of a frozen DINO ViT-B/16" if target == "dino" else "a jointly trained projection of pixels"
    text = (
        f"SIGMA pretraining by the authors on {DATASETS[data]}, {epochs} epochs: a ViT predicts to which of 3000 "
        f"prototypes the masked tubes belong; the prototypes group {grouped}."
    )
    if target == "mlp" or (size, data) == ("small", "k400"):  # sigma.md, section 6
        text += (
            " The authors published no script for this pretraining run: the number of prototypes, mask ratio, stride "
            "and epsilon here are those of their scripts for other runs, not known of this one."
        )
    return text


def _checkpoint(
    target: str, size: str, data: str, epochs: int, finetuning_data: str | None = None, top1: float | None = None
) -> AuthorCheckpoint:
    pretrained = f"sigma-{target}-vit-{size}-{data}"
    config = functools.partial(_config, target, size, data, finetuning_data)
    sinkhorn = config()
    return AuthorCheckpoint(
        name=pretrained if finetuning_data is None else f"{pretrained}-finetuned-{finetuning_data}",
        make_config=config,
        paper=PAPER,
        source="Hub repository `SMSD75/SIGMA`",
        download=DOWNLOADS.get(pretrained) if finetuning_data is None else None,
        converter="tubelets.models.methods.sigma.conversion_sigma",
        not_in_file="class names nor epsilon",
        pretraining_data=data,
        training=_training(target, size, data, epochs),
        settings={
            "mask in pretraining": f"tube, {sinkhorn.mask_ratio}",
            "stride in pretraining": 4 if data == "k400" else 2,
            "Sinkhorn": f"epsilon {sinkhorn.sinkhorn_epsilon}, {sinkhorn.sinkhorn_iterations} iterations",
        },
        stride=4 if data == "k400" else 2,
        finetuning_data=finetuning_data,
        pretrained_name=None if finetuning_data is None else pretrained,
        top1=top1,
        views="5 clips x 3 crops" if finetuning_data == "k400" else "2 clips x 3 crops",
    )


CHECKPOINTS = [
    _checkpoint("dino", "base", "k400", 800),
    _checkpoint("dino", "base", "ssv2", 800),
    _checkpoint("dino", "small", "k400", 800),
    _checkpoint("dino", "small", "ssv2", 2400),
    _checkpoint("mlp", "base", "k400", 800),
    _checkpoint("mlp", "base", "ssv2", 800),
    _checkpoint("dino", "base", "k400", 800, "k400", 81.6),
    _checkpoint("dino", "base", "k400", 800, "ssv2", 71.1),
    _checkpoint("dino", "base", "ssv2", 800, "ssv2", 70.9),
    _checkpoint("dino", "small", "k400", 800, "k400", 79.4),
    _checkpoint("dino", "small", "k400", 800, "ssv2", 68.7),
    _checkpoint("dino", "small", "ssv2", 2400, "ssv2", 68.6),
    _checkpoint("mlp", "base", "k400", 800, "k400", 80.2),
    _checkpoint("mlp", "base", "k400", 800, "ssv2", 69.8),
    _checkpoint("mlp", "base", "ssv2", 800, "ssv2", 70.4),
]
