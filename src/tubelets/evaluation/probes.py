"""Classifiers on frozen features: a linear probe, an attentive probe over tokens, and either with few labels."""

import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from tubelets.data.sources.few_shot import first_of_each_class
from tubelets.evaluation.devices import evaluation_device
from tubelets.evaluation.features import FeatureSet
from tubelets.tasks.metrics import top_k_accuracy

# Candidate penalties for cross-validation, as scikit-learn's C.
PENALTIES = (0.001, 0.01, 0.1, 1.0)

# Multiplications per pass over the features below which one NumPy thread is faster, because threads synchronise many
# times per iteration: on two cores one thread took half the time at 3 << 28.
MIN_PARALLEL_OPERATIONS = 1 << 29


def linear_probe(
    train: FeatureSet, test: FeatureSet, penalty: float | None = None, max_iterations: int = 500
) -> Tensor:
    """Scores of a logistic regression on standardised features: the fast linear probe.

    The closed recipe of the papers (augmented clips, AdamW, 30 epochs) is fine-tuning with a frozen backbone instead,
    see `tubelets finetune`.

    Args:
        train: features and labels to learn from; every class should occur.
        test: features to score.
        penalty: scikit-learn's C; None chooses one of `PENALTIES` by three-fold cross-validation on the training
            features, or 0.01 if a class has fewer than three clips.
        max_iterations: of the L-BFGS solver.

    Returns:
        Log-probabilities float32 `(N, classes)`; minus infinity for classes that are not in `train`.

    Raises:
        ValueError: if fewer than two classes occur in `train`, or a number is out of range.
    """
    if penalty is not None and not 0 < penalty < math.inf:
        raise ValueError(f"penalty must be positive, as scikit-learn's C, got {penalty}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    counts = torch.bincount(train.labels, minlength=train.num_classes)
    if int((counts > 0).sum()) < 2:
        raise ValueError(f"a probe needs clips of at least two classes, got counts {counts.tolist()}")
    if penalty is None and int(counts[counts > 0].min()) < 3:
        penalty = 0.01
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty or 1.0, max_iter=max_iterations))
    if penalty is None:
        pipeline = GridSearchCV(pipeline, {"logisticregression__C": list(PENALTIES)}, cv=3)
    with warnings.catch_warnings(), _few_threads(train.features.numel() * train.num_classes):
        # A weak penalty converges slowly and is rarely the one chosen.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(train.features.numpy(), train.labels.numpy())
    scores = torch.full((len(test.labels), train.num_classes), -math.inf)
    known = torch.from_numpy(pipeline.classes_).long()
    scores[:, known] = torch.from_numpy(pipeline.predict_log_proba(test.features.numpy())).float()
    return scores


def _few_threads(operations: int) -> AbstractContextManager[object]:
    """Limit NumPy to one thread for small problems."""
    return threadpool_limits(1, "blas") if operations < MIN_PARALLEL_OPERATIONS else nullcontext()


class AttentiveProbe(nn.Module):
    """Learned queries, one per head, attend to the tokens of a frozen model; a linear layer classifies the result.

    This is cross attention from one query. Key and value projections are applied to the queries and to the attended
    tokens instead of to every token, which is equivalent and needs a fiftieth of the arithmetic.

    Args:
        hidden_size: width of the tokens.
        num_classes: classes.
        num_heads: heads of the attention; must divide the width.

    Raises:
        ValueError: if a number is below 1, or the heads do not divide the width.

    Example:
        >>> AttentiveProbe(8, 3, num_heads=2)(torch.zeros(4, 10, 8)).shape
        torch.Size([4, 3])
    """

    def __init__(self, hidden_size: int, num_classes: int, num_heads: int = 4) -> None:
        super().__init__()
        if hidden_size < 1 or num_classes < 1 or num_heads < 1:
            raise ValueError(
                f"hidden_size, num_classes and num_heads must be at least 1, got {hidden_size}, {num_classes} and "
                f"{num_heads}"
            )
        if hidden_size % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the width of the tokens, {hidden_size}")
        self.norm = nn.LayerNorm(hidden_size)
        self.queries = nn.Parameter(torch.zeros(num_heads, hidden_size))
        self.values = nn.Parameter(torch.zeros(num_heads, hidden_size, hidden_size // num_heads))
        self.classifier = nn.Linear(hidden_size, num_classes)
        nn.init.trunc_normal_(self.queries, std=0.02)
        nn.init.trunc_normal_(self.values, std=hidden_size**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class scores `(B, num_classes)` of tokens `(B, N, hidden_size)`."""
        keys = self.norm(tokens)
        attention = (keys @ self.queries.T).softmax(dim=1)
        attended = attention.transpose(1, 2) @ keys
        return self.classifier(torch.einsum("bhd,hde->bhe", attended, self.values).flatten(1))


def attentive_probe(
    train: FeatureSet,
    test: FeatureSet,
    *,
    steps: int = 500,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    num_heads: int = 4,
    seed: int = 0,
) -> Tensor:
    """Train an `AttentiveProbe` on token features and score the test clips, on an accelerator if there is one.

    Args:
        train: features with tokens and labels.
        test: features with tokens to score.
        steps: AdamW steps; the learning rate rises over 5 % of them and falls as a cosine.
        batch_size: clips per step; all clips if there are fewer.
        learning_rate: highest learning rate.
        weight_decay: decoupled weight decay.
        num_heads: heads of the attention.
        seed: seed of initial weights and batches.

    Returns:
        Class scores float32 `(N, classes)`.

    Raises:
        ValueError: if the features have no tokens, or a number is out of range.
    """
    if train.tokens is None or test.tokens is None:
        raise ValueError("the features have no tokens, which an attentive probe needs; extract with pooling='tokens'")
    if steps < 1 or batch_size < 1 or not 0 < learning_rate < math.inf or not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"steps and batch_size must be at least 1, learning_rate positive and weight_decay not negative, got "
            f"{steps}, {batch_size}, {learning_rate} and {weight_decay}"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = AttentiveProbe(train.tokens.shape[2], train.num_classes, num_heads)
    device = evaluation_device()
    probe.to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=weight_decay)
    warmup = max(1, round(0.05 * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    for _ in range(steps):
        chosen = torch.randint(len(train.labels), (min(batch_size, len(train.labels)),), generator=generator)
        tokens, labels = train.tokens[chosen].to(device), train.labels[chosen].to(device)
        loss = F.cross_entropy(probe(tokens.float()), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        return torch.cat([probe(block.to(device).float()).cpu() for block in test.tokens.split(256)])


def draw_shots(labels: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Draw the same number of clips of each class.

    Args:
        labels: int64 `(N,)`.
        shots: clips per class, at least 1.
        generator: source of the draw.

    Returns:
        Indices, int64 `(classes * shots,)`, sorted.

    Raises:
        ValueError: if `shots` is not positive, or a class that occurs has fewer clips.

    Example:
        >>> draw_shots(torch.tensor([0, 1, 0, 1]), 2, torch.Generator())
        tensor([0, 1, 2, 3])
    """
    if shots < 1:
        raise ValueError(f"shots={shots} must be at least 1")
    order = torch.randperm(len(labels), generator=generator).tolist()
    chosen = first_of_each_class(labels.tolist(), order, shots)
    return torch.tensor(sorted(place for places in chosen.values() for place in places))


def few_shot(
    train: FeatureSet,
    test: FeatureSet,
    shots: Sequence[int] = (1, 4, 16),
    draws: int = 5,
    seed: int = 0,
    probe: Callable[[FeatureSet, FeatureSet], Tensor] = linear_probe,
) -> dict[str, dict[str, float]]:
    """Top-1 accuracy of a probe trained on few labelled clips per class, over several draws of them.

    Args:
        train: features that clips are drawn from.
        test: features to score for each draw.
        shots: clips per class.
        draws: independent draws for each number of shots, at least 1.
        seed: seed of the draws; use one seed to compare models on the same clips.
        probe: `linear_probe`, `attentive_probe` or another function from both sets to scores.

    Returns:
        For each number of shots, as text, the `mean` and standard deviation `std` over draws.

    Raises:
        ValueError: if a class has too few clips, or `draws` is below 1.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    result = {}
    for count in shots:
        found = []
        for draw in range(draws):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + draw)
            scores = probe(train.subset(draw_shots(train.labels, count, generator)), test)
            found.append(top_k_accuracy(scores, test.labels))
        result[str(count)] = {
            "mean": statistics.fmean(found),
            "std": statistics.stdev(found) if draws > 1 else 0.0,
        }
    return result
