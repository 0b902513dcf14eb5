"""Losses of several students that learn from a teacher's decisions and from each other.

Source: cross_modal_distillation.md, section 2. In every divergence the first argument is the network's own prediction.
In the loss of a student the predictions of the teacher and of its peers are constants.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _check_students(student_logits: Tensor) -> None:
    if student_logits.ndim != 3 or not student_logits.numel():
        raise ValueError(f"student_logits must be (students, B, classes), got {tuple(student_logits.shape)}")


def divergence(own: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(own, other) of softened predictions, the mean over the batch; no gradient flows into the other.

    Args:
        own: logits `(..., B, C)`.
        other: logits that broadcast to them.
        temperature: divides both; the divergence is not multiplied by its square.

    Returns:
        `(...)`.

    Raises:
        ValueError: if the temperature is not positive.

    Example:
        >>> divergence(torch.tensor([[0.0, 9.0]]), torch.tensor([[0.0, 9.0]]), 10.0)
        tensor(0.)
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive, got {temperature}")
    log_own = (own / temperature).log_softmax(dim=-1)
    log_other = (other.detach() / temperature).log_softmax(dim=-1)
    return (log_own.exp() * (log_own - log_other)).sum(dim=-1).mean(dim=-1)


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of every student with the same labels, such as the decisions of a teacher.

    Args:
        student_logits: `(K, B, C)`.
        labels: int64 `(B,)`.

    Returns:
        `(K,)`.

    Raises:
        ValueError: if the logits have another number of dimensions.

    Example:
        >>> hard_label_loss(torch.zeros(2, 1, 4), torch.tensor([3])).round(decimals=3)
        tensor([1.3860, 1.3860])
    """
    _check_students(student_logits)
    log_probabilities = student_logits.log_softmax(dim=-1)
    chosen = labels[None, :, None].expand(len(student_logits), -1, 1)
    return -log_probabilities.gather(2, chosen)[..., 0].mean(dim=1)


def mutual_loss(student_logits: Tensor, temperature: float = 10.0) -> Tensor:
    """Mean divergence of each student from its peers, all pairs at once.

    Args:
        student_logits: `(K, B, C)`.
        temperature: of all predictions.

    Returns:
        `(K,)`; 0 for a single student.

    Raises:
        ValueError: if the temperature is not positive, or the logits have another number of dimensions.

    Example:
        >>> mutual_loss(torch.zeros(1, 2, 4)), mutual_loss(torch.zeros(3, 2, 4))
        (tensor([0.]), tensor([0., 0., 0.]))
    """
    _check_students(student_logits)
    students = len(student_logits)
    # (own, peer): the diagonal is a student's divergence from itself, which is 0 and has no gradient to speak of.
    pairs = divergence(student_logits[:, None], student_logits[None], temperature)
    peers = ~torch.eye(students, dtype=torch.bool, device=pairs.device)
    return torch.where(peers, pairs, 0.0).sum(dim=1) / max(students - 1, 1)


def distillation_losses(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    hard_labels: bool = True,
    temperature: float = 10.0,
    mutual_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The paper's loss of every student (equations 3 to 6), or its baseline with a softened teacher.

    Args:
        student_logits: `(K, B, C)`.
        teacher_logits: `(B, C)`.
        hard_labels: learn the teacher's decision; otherwise its softened prediction.
        temperature: of the mutual term, and of the softened teacher.
        mutual_weight: of the mutual term.

    Returns:
        What the teacher teaches and the mutual term, each `(K,)`; the loss is the sum over both and over students.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.

    Example:
        >>> taught, mutual = distillation_losses(torch.zeros(2, 1, 4), torch.tensor([[0.0, 0.0, 9.0, 0.0]]))
        >>> round(float(taught.sum() + mutual.sum()), 3)
        2.773
    """
    _check_students(student_logits)
    if teacher_logits.shape != student_logits.shape[1:]:
        raise ValueError(
            f"teacher_logits must be {tuple(student_logits.shape[1:])} as each student's, got "
            f"{tuple(teacher_logits.shape)}"
        )
    if hard_labels:
        taught = hard_label_loss(student_logits, teacher_logits.argmax(dim=1))
    else:
        taught = divergence(student_logits, teacher_logits, temperature)
    return taught, mutual_weight * mutual_loss(student_logits, temperature)


def ensemble(student_logits: Tensor, how: str = "average") -> Tensor:
    """Scores of several students together.

    Args:
        student_logits: `(K, B, C)`.
        how: "average" of the probabilities, the paper's choice, or their "max", not normalised.

    Returns:
        `(B, C)`.

    Raises:
        ValueError: if `how` is unknown.

    Example:
        >>> ensemble(torch.tensor([[[0.0, 0.0]], [[0.0, 100.0]]])), ensemble(torch.zeros(2, 1, 2), "max")
        (tensor([[0.2500, 0.7500]]), tensor([[0.5000, 0.5000]]))
    """
    _check_students(student_logits)
    probabilities = F.softmax(student_logits, dim=-1)
    if how == "average":
        return probabilities.mean(dim=0)
    if how == "max":
        return probabilities.amax(dim=0)
    raise ValueError(f"how must be 'average' or 'max', got {how!r}")
