"""Video-text contrast over processes, and recall where a video has several texts."""

import pytest
import torch
from torch import Tensor

from distributed import run_processes
from tubelets.evaluation.video_text import video_text_recall
from tubelets.objectives import dual_softmax, video_text_contrastive_loss


def features() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    video, text = torch.randn(2, 6, 8, generator=generator)
    return video, text, torch.tensor([0, 1, 1, 2, 0, 3])


def own_part(rank: int, world_size: int, video: Tensor, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    mine = video.chunk(world_size)[rank].clone().requires_grad_()
    loss = video_text_contrastive_loss(mine, text.chunk(world_size)[rank], 0.1, index.chunk(world_size)[rank])
    loss.backward()
    assert mine.grad is not None
    return loss.detach(), mine.grad


def test_processes_share_one_batch() -> None:
    video, text, index = features()
    whole = video.clone().requires_grad_()
    loss = video_text_contrastive_loss(whole, text, 0.1, index)
    loss.backward()
    parts = run_processes(own_part, 2, video, text, index)
    for found, _ in parts:
        torch.testing.assert_close(found, loss.detach())
    # Every process computes the whole loss; averaging over processes, as DDP does, gives the gradient of one.
    torch.testing.assert_close(torch.cat([grad for _, grad in parts]) / 2, whole.grad)


def test_equal_indices_are_no_negatives() -> None:
    video = torch.eye(3)[[0, 0, 1]]
    shared = video_text_contrastive_loss(video, video, 0.1, torch.tensor([5, 5, 6]))
    alone = video_text_contrastive_loss(video, video, 0.1)
    # Two equal pairs share their probability either way; only with an index is that what is asked for.
    torch.testing.assert_close(shared, alone, atol=1e-3, rtol=0)
    mixed = video_text_contrastive_loss(video, video.flip(0), 0.1, torch.tensor([5, 5, 6]))
    assert mixed > shared + 1


@pytest.mark.parametrize("shapes", [((3, 4), (2, 4), (3,)), ((3, 4), (3, 5), (3,)), ((3, 4), (3, 4), (2,))])
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    video, text, index = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"equal matrices \(B, D\)"):
        video_text_contrastive_loss(video, text, 0.1, index.long())


def test_the_best_text_of_a_video_counts() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.3, 0.8]])
    recall = video_text_recall(scores, torch.tensor([0, 0, 1]))
    assert recall["video_to_text_r1"] == 100
    # The first text is nearer to the other video.
    assert recall["text_to_video_r1"] == pytest.approx(200 / 3)
    assert recall["text_to_video_r5"] == 100


def test_owners_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least once"):
        video_text_recall(torch.zeros(2, 2), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"text_owners must be \(3,\)"):
        video_text_recall(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_items_that_all_queries_like_are_lowered() -> None:
    scores = torch.tensor([[0.9, 0.8], [0.9, 0.1]])
    assert (dual_softmax(scores).argmax(dim=1) == torch.tensor([1, 0])).all()
