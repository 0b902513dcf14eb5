"""SMILE's published checkpoints; numbers from the paper's tables (smile.md, sections 10 and 11)."""

import functools
from typing import Any

from tubelets.models.common.author_checkpoints import SIZES, AuthorCheckpoint, Paper, classifier_fields
from tubelets.models.methods.smile.configuration_smile import SmileConfig

PAPER = Paper(
    "2504.00527",
    "Fida Mohammad Thoker et al.",
    "SMILE: Infusing Spatial and Motion Semantics in Masked Video Learning",
    "CVPR 2025",
)
FILES = "SMILE_MODELS/{folder}/{prefix}k400_pretraining_first_stage_{first}_epochs_2nd_stage_{second}_epochs.pth"
# Counted epochs: each clip is used with two masks, so only half as many were loaded (smile.md, section 3.4).
STAGES = {600: (300, 300), 1200: (800, 400)}


def _config(finetuning_data: str | None) -> SmileConfig:
    # The released networks were trained in both stages, so the second one determines their configuration.
    fields: dict[str, Any] = {
        **SIZES["base"],
        "num_objects": 0,
        "mask_type": "tube",
        "architectures": ["SmileForPreTraining"],
    }
    if finetuning_data is not None:
        fields |= classifier_fields(finetuning_data, "SmileForVideoClassification")
    return SmileConfig(**fields)


def _file(epochs: int, finetuning_data: str | None) -> str:
    first, second = STAGES[epochs]
    if finetuning_data is None:
        return FILES.format(folder="pretrain", prefix="", first=first, second=second)
    folder = f"finetune/{finetuning_data}/VIT_B_{epochs}_EPOCHS"
    return FILES.format(folder=folder, prefix=f"{finetuning_data}_finetuned_after_", first=first, second=second)


def _checkpoint(epochs: int, finetuning_data: str | None = None, top1: float | None = None) -> AuthorCheckpoint:
    pretrained = f"smile-vit-base-k400-{epochs}"
    first, second = STAGES[epochs]
    return AuthorCheckpoint(
        name=pretrained if finetuning_data is None else f"{pretrained}-finetuned-{finetuning_data}",
        make_config=functools.partial(_config, finetuning_data),
        paper=PAPER,
        source=f"Hub repository `fmthoker/SMILE`, file `{_file(epochs, finetuning_data)}`",
        download=f"hf://fmthoker/SMILE/{_file(epochs, finetuning_data)}",
        converter="tubelets.models.methods.smile.conversion_smile",
        not_in_file="class names nor stage",
        pretraining_data="k400",
        training=(
            f"SMILE pretraining by the authors on Kinetics-400: a ViT predicts the CLIP features of masked tubes, for "
            f"{first} epochs with two segmented objects moving over each clip and masks along their paths, then for "
            f"{second} epochs on plain clips. Epochs count every clip twice, once for each of its two masks."
        ),
        settings={
            "mask in pretraining": "trajectory, then tube, 0.8",
            "stride in pretraining": 4,
            "teacher": "CLIP ViT-B/16, frozen",
        },
        finetuning_data=finetuning_data,
        pretrained_name=None if finetuning_data is None else pretrained,
        top1=top1,
        views="7 clips x 3 crops in the authors' script" if finetuning_data == "k400" else "2 clips x 3 crops",
    )


CHECKPOINTS = [
    _checkpoint(600),
    _checkpoint(1200),
    _checkpoint(600, "k400", 83.1),
    _checkpoint(600, "ssv2", 72.1),
    _checkpoint(1200, "k400", 83.4),
    _checkpoint(1200, "ssv2", 72.4),
]
