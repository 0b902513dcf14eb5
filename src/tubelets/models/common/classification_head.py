"""The layers between a pooled feature and class scores, for classifiers on any backbone."""

from torch import Tensor, nn

from tubelets.objectives.classification import classification_loss


class ClassificationHead:
    """Mixin that adds an optional LayerNorm, dropout and a linear layer to a module.

    The layers are attributes of the classifier itself and not of a submodule, because published weights are named
    `fc_norm.*` and `classifier.*`.

    Example:
        >>> class Probe(ClassificationHead, nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.add_classification_head(feature_size=8, num_labels=3, norm_eps=1e-6)
        >>> loss, logits = Probe().classify(torch.zeros(2, 8), torch.tensor([0, 2]))
        >>> sorted(Probe().state_dict())
        ['classifier.bias', 'classifier.weight', 'fc_norm.bias', 'fc_norm.weight']
    """

    fc_norm: nn.LayerNorm | None
    dropout: nn.Dropout
    classifier: nn.Linear

    def add_classification_head(
        self, feature_size: int, num_labels: int, *, dropout: float = 0.0, norm_eps: float | None = None
    ) -> None:
        """Create the layers; call it after `nn.Module.__init__`.

        Args:
            feature_size: width of the pooled feature.
            num_labels: classes.
            dropout: before the linear layer, in [0, 1).
            norm_eps: epsilon of the LayerNorm; None leaves the norm out.
        """
        self.fc_norm = None if norm_eps is None else nn.LayerNorm(feature_size, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_size, num_labels)

    def classify(
        self, pooled: Tensor, labels: Tensor | None = None, problem_type: str | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Score classes.

        Args:
            pooled: `(B, feature_size)`.
            labels: see `tubelets.objectives.classification.classification_loss`; None computes no loss.
            problem_type: "multi_label_classification" for several labels per clip, "regression" for numbers.

        Returns:
            The loss, or None, and logits `(B, num_labels)`.

        Raises:
            ValueError: if the labels do not fit.
        """
        if self.fc_norm is not None:
            pooled = self.fc_norm(pooled)
        logits = self.classifier(self.dropout(pooled))
        return None if labels is None else classification_loss(logits, labels, problem_type), logits
