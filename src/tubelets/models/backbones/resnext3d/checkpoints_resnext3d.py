"""The paper that cards of these networks cite. Where its public weights are, is in feature_supervised_transfer.md."""

from tubelets.models.common.author_checkpoints import Paper

PAPER = Paper(
    "1711.09577",
    "Kensho Hara, Hirokatsu Kataoka, Yutaka Satoh",
    "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
    "CVPR 2018",
)
