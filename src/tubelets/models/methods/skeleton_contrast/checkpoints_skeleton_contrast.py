"""Skeleton-Contrast's published checkpoints, with the paper's numbers (skeleton_contrast.md, sections 8 and 10)."""

from tubelets.models.common.author_checkpoints import AuthorCheckpoint, Paper
from tubelets.models.methods.skeleton_contrast.configuration_skeleton_contrast import SkeletonContrastConfig

PAPER = Paper(
    "2108.03656",
    "Fida Mohammad Thoker, Hazel Doughty, Cees Snoek",
    "Skeleton-Contrastive 3D Action Representation Learning",
    "ACM Multimedia 2021",
)
FOLDER = "1xkqs4bSPRVFrHhHC_TLPCbn4N_NfbZG7"
# Data set, title of the split, epochs, and top-1 of linear evaluation, of retrieval, and fine-tuned with all labels.
SPLITS = {
    "ntu-60-cross-view": ("ntu60", "cross-view", 450, 85.2, 82.6, 90.4),
    "ntu-60-cross-subject": ("ntu60", "cross-subject", 450, 76.3, 62.5, 79.3),
    "ntu-120-cross-setup": ("ntu120", "cross-setup", 350, 67.9, 52.3, 75.4),
    "ntu-120-cross-subject": ("ntu120", "cross-subject", 350, 67.1, 50.6, 73.1),
}


def _config() -> SkeletonContrastConfig:
    return SkeletonContrastConfig(architectures=["SkeletonContrastForPreTraining"])


def _checkpoint(name: str) -> AuthorCheckpoint:
    data, split, epoch, linear, retrieval, finetuned = SPLITS[name]
    return AuthorCheckpoint(
        name=f"skeleton-contrast-{name}",
        make_config=_config,
        paper=PAPER,
        source=(
            f"Google Drive folder `{FOLDER}`, `{name.replace('-', '_')}/interskeleton_seq_based_graph_based/"
            f"checkpoint_0{epoch}.pth.tar`, linked from the authors' repository"
        ),
        converter="tubelets.models.methods.skeleton_contrast.conversion_skeleton_contrast",
        not_in_file="temperature nor momentum",
        pretraining_data=data,
        training=(
            f"Skeleton-Contrast by the authors on the training split ({split}): the sequence encoder finds the graph "
            f"encoder's key of another view, and the other way round, among 16,384 older keys; epoch {epoch}."
        ),
        settings={"queue": 16384, "temperature": 0.07, "momentum": 0.999, "evaluated encoder": "sequence"},
        stride=1,
        objective="contrastive-learning",
        after_finetuning={
            f"linear evaluation, {split}, top-1": linear,
            f"retrieval (nearest neighbour), {split}, top-1": retrieval,
            f"fine-tuned on all labels, {split}, top-1": finetuned,
        },
        after_finetuning_source="tables 1, 3 and 7 of the paper",
    )


CHECKPOINTS = [_checkpoint(name) for name in SPLITS]
