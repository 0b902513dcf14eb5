"""The checkpoints that can be published: one record each, from which `hub_configs/` and `model_cards/` are made.

Numbers are the authors', from the paper's tables (sigma.md, section 9); this package has not measured them.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

from tubelets.models.sigma.configuration_sigma import SigmaConfig

SIZES = {
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "decoder_hidden_size": 384,
             "decoder_num_attention_heads": 6, "decoder_intermediate_size": 1536},
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "decoder_hidden_size": 192,
              "decoder_num_attention_heads": 3, "decoder_intermediate_size": 768},
}  # fmt: skip

DATASETS = {"k400": "Kinetics-400", "ssv2": "Something-Something V2"}
HUB_DATASETS = {"k400": "kinetics400", "ssv2": "something-something-v2"}


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint of the authors, as a configuration of this package.

    Attributes:
        target: `dino` or `mlp`.
        size: a key of `SIZES`.
        pretraining_data: `k400` or `ssv2`.
        epochs: epochs of pretraining.
        finetuning_data: `k400` or `ssv2` for a classifier, None for a pretraining network.
        top1: published top-1 accuracy in percent of the classifier, on the validation set of `finetuning_data`.
    """

    target: str
    size: str
    pretraining_data: str
    epochs: int
    finetuning_data: str | None = None
    top1: float | None = None

    @property
    def pretrained_name(self) -> str:
        """Name of the pretraining checkpoint."""
        return f"sigma-{self.target}-vit-{self.size}-{self.pretraining_data}"

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder and card."""
        suffix = f"-finetuned-{self.finetuning_data}" if self.finetuning_data else ""
        return self.pretrained_name + suffix

    @property
    def stride(self) -> int:
        """Distance between the frames of a clip in pretraining, in video frames (sigma.md, section 6)."""
        return 4 if self.pretraining_data == "k400" else 2

    @property
    def has_script(self) -> bool:
        """Whether the authors published a script of the pretraining run (sigma.md, section 6)."""
        return self.target == "dino" and (self.size, self.pretraining_data) != ("small", "k400")

    def config(self) -> SigmaConfig:
        """The configuration, with the class names of a classifier."""
        # The official script for ViT-B on Something-Something V2 is the only one with 0.03 (sigma.md, section 4).
        sharp = self.size == "base" and self.pretraining_data == "ssv2"
        fields: dict[str, Any] = {
            **SIZES[self.size],
            "target_type": "dino_v1" if self.target == "dino" else "mlp",
            "sinkhorn_epsilon": 0.03 if sharp else 0.05,
            "architectures": ["SigmaForPreTraining"],
        }
        if self.finetuning_data is not None:
            names = class_names(self.finetuning_data)
            fields |= {
                "architectures": ["SigmaForVideoClassification"],
                "use_mean_pooling": True,
                "id2label": dict(enumerate(names)),
                "label2id": {name: index for index, name in enumerate(names)},
                "problem_type": "single_label_classification",
            }
        return SigmaConfig(**fields)


def class_names(dataset: str) -> list[str]:
    """Class names in the order of the labels.

    Args:
        dataset: `k400`, whose names torchvision carries, or `ssv2`.

    Returns:
        400 or 174 names.

    Raises:
        ValueError: if the data set is another one.
    """
    if dataset == "k400":
        from torchvision.models.video import MViT_V1_B_Weights

        return list(MViT_V1_B_Weights.KINETICS400_V1.meta["categories"])
    if dataset == "ssv2":
        labels = resources.files("tubelets.hub") / "labels" / "something_something_v2.txt"
        return labels.read_text(encoding="utf-8").splitlines()
    raise ValueError(f"there are no class names for {dataset!r}; choose one of {sorted(DATASETS)}")


_PRETRAINED = [
    PublishedCheckpoint("dino", "base", "k400", 800),
    PublishedCheckpoint("dino", "base", "ssv2", 800),
    PublishedCheckpoint("dino", "small", "k400", 800),
    PublishedCheckpoint("dino", "small", "ssv2", 2400),
    PublishedCheckpoint("mlp", "base", "k400", 800),
    PublishedCheckpoint("mlp", "base", "ssv2", 800),
]
_FINETUNED = [
    PublishedCheckpoint("dino", "base", "k400", 800, "k400", 81.6),
    PublishedCheckpoint("dino", "base", "k400", 800, "ssv2", 71.1),
    PublishedCheckpoint("dino", "base", "ssv2", 800, "ssv2", 70.9),
    PublishedCheckpoint("dino", "small", "k400", 800, "k400", 79.4),
    PublishedCheckpoint("dino", "small", "k400", 800, "ssv2", 68.7),
    PublishedCheckpoint("dino", "small", "ssv2", 2400, "ssv2", 68.6),
    PublishedCheckpoint("mlp", "base", "k400", 800, "k400", 80.2),
    PublishedCheckpoint("mlp", "base", "k400", 800, "ssv2", 69.8),
    PublishedCheckpoint("mlp", "base", "ssv2", 800, "ssv2", 70.4),
]
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in (*_PRETRAINED, *_FINETUNED)}
