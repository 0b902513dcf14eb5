"""A classifier on any backbone, of this package, of transformers, or of one's own."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from tubelets.models.backbones.adapters import as_backbone
from tubelets.models.common.classification_head import ClassificationHead
from tubelets.objectives.classification import PROBLEM_TYPES


class BackboneClassifier(ClassificationHead, nn.Module):
    """Pooled feature of a backbone, LayerNorm, dropout, linear layer.

    It trains with transformers' Trainer and with accelerate. It is a plain module without a configuration: save it with
    `torch.save(model.state_dict(), ...)` and rebuild it around the same backbone to load it. The models of this package
    and of transformers have classes of their own, such as `SigmaForVideoClassification` or
    `TimesformerForVideoClassification`, that `from_pretrained` loads and the Hub shows; use those for their own heads.

    Args:
        backbone: anything that `tubelets.models.backbones.adapters.as_backbone` accepts.
        num_labels: classes, or numbers with "regression".
        problem_type: "single_label_classification", "multi_label_classification" or "regression".
        dropout: before the linear layer, in [0, 1).
        norm: put a LayerNorm before it.
        freeze_backbone: train the head alone; the backbone stays in evaluation mode, its batch norms included.

    Raises:
        TypeError: if the model is not a backbone.
        ValueError: if `problem_type` is unknown.

    Example:
        >>> import torch
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> backbone = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))
        >>> model = BackboneClassifier(backbone, num_labels=5)
        >>> model(torch.zeros(2, 8, 3, 32, 32), labels=torch.tensor([0, 4])).logits.shape
        torch.Size([2, 5])
    """

    # Keeps transformers' Trainer from passing `num_items_in_batch` on to the backbone.
    accepts_loss_kwargs = False

    def __init__(
        self,
        backbone: nn.Module,
        num_labels: int,
        *,
        problem_type: str = "single_label_classification",
        dropout: float = 0.0,
        norm: bool = True,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        if problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}")
        self.backbone = as_backbone(backbone)
        self.problem_type, self.freeze_backbone = problem_type, freeze_backbone
        self.add_classification_head(
            self.backbone.feature_size, num_labels, dropout=dropout, norm_eps=1e-6 if norm else None
        )
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "BackboneClassifier":
        """Switch between training and evaluation; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, *inputs: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Score classes.

        Args:
            *inputs: the backbone's inputs, such as `pixel_values`; by position or by name.
            labels: see `tubelets.objectives.classification.classification_loss`.
            **kwargs: further arguments of the backbone.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if an input or the labels do not fit.
        """
        loss, logits = self.classify(self.backbone(*inputs, **kwargs).pooler_output, labels, self.problem_type)
        return ImageClassifierOutput(loss=loss, logits=logits)
