"""InfoNCE, its queue and the momentum encoder: by hand, over several processes, and what is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distributed import run_processes
from tubelets.objectives import (
    KeyQueue,
    gather_keys,
    info_nce,
    shuffle_batches,
    symmetric_nce,
    unshuffle_batches,
    update_momentum,
)


def unit(*shape: int, seed: int = 0, dim: int = 1) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=dim)


def test_info_nce_is_its_formula() -> None:
    queries, keys, negatives = unit(3, 8), unit(3, 8, seed=1), unit(8, 5, seed=2, dim=0)
    loss, logits = info_nce(queries, keys, negatives, temperature=0.3)
    expected = []
    for query, key in zip(queries, keys, strict=True):
        own = (query @ key / 0.3).exp()
        others = sum((query @ column / 0.3).exp() for column in negatives.T)
        expected.append(-(own / (own + others)).log())
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    torch.testing.assert_close(logits[:, 0], (queries * keys).sum(dim=1) / 0.3)
    torch.testing.assert_close(logits[:, 1:], queries @ negatives / 0.3)


def test_info_nce_trains_the_queries_alone_and_in_float32() -> None:
    queries, keys, negatives = (each.requires_grad_() for each in (unit(3, 8), unit(3, 8, seed=1), unit(8, 5, seed=2)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, logits = info_nce(queries, keys, negatives)
    assert logits.dtype == loss.dtype == torch.float32
    assert torch.equal(logits, info_nce(queries, keys, negatives)[1])
    loss.backward()
    assert queries.grad.abs().max() > 0
    assert keys.grad is None
    assert negatives.grad is None


def test_symmetric_contrast_is_the_mean_of_both_directions() -> None:
    first, second = (3 * unit(4, 8, seed=seed) for seed in (3, 4))
    loss, scores = symmetric_nce(first.requires_grad_(), second.requires_grad_(), temperature=0.3)
    expected = []
    for one, other in ((first, second), (second, first)):
        for row, value in enumerate(one):
            terms = [torch.exp(F.cosine_similarity(value, each, dim=0) / 0.3) for each in other]
            expected.append(-(terms[row] / sum(terms)).log())
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    torch.testing.assert_close(scores.diagonal(), F.cosine_similarity(first, second) / 0.3)
    loss.backward()
    assert first.grad.abs().max() > 0
    assert second.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("shapes", "temperature", "named"),
    [
        (((3, 8), (2, 8), (8, 5)), 0.2, r"\(3, 8\).*\(2, 8\)"),
        (((3, 8), (3, 8), (5, 8)), 0.2, r"negatives \(5, 8\)"),
        (((3, 8), (3, 8), (8, 5)), 0.0, "temperature must be positive, got 0.0"),
    ],
)
def test_info_nce_refuses_by_value(shapes: Any, temperature: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        info_nce(*(torch.zeros(shape) for shape in shapes), temperature)


def test_the_queue_starts_with_unit_vectors_and_goes_round() -> None:
    queue = KeyQueue(4, 6, torch.Generator().manual_seed(0))
    torch.testing.assert_close(queue.keys.norm(dim=0), torch.ones(6))
    first = queue.keys.clone()
    batches = [unit(2, 4, seed=seed) for seed in range(1, 5)]
    for batch in batches[:2]:
        queue.enqueue(batch)
    assert torch.equal(queue.keys, torch.cat([batches[0].T, batches[1].T, first[:, 4:]], dim=1))
    for batch in batches[2:]:
        queue.enqueue(batch)
    # Four batches of two in a queue of six: the fourth has replaced the first.
    assert torch.equal(queue.keys, torch.cat([batches[3].T, batches[1].T, batches[2].T], dim=1))
    assert queue.pointer.tolist() == [2]


def test_a_pointer_between_multiples_wraps_within_a_batch() -> None:
    queue = KeyQueue(4, 6)
    queue.pointer.fill_(5)
    batch = unit(2, 4)
    queue.enqueue(batch)
    assert torch.equal(queue.keys[:, [5, 0]], batch.T)
    assert queue.pointer.tolist() == [1]


def test_the_queue_is_saved_with_the_weights() -> None:
    queue, other = KeyQueue(4, 6, torch.Generator().manual_seed(0)), KeyQueue(4, 6, torch.Generator().manual_seed(1))
    queue.enqueue(unit(3, 4))
    assert set(queue.state_dict()) == {"keys", "pointer"}
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(unit(3, 4, seed=7))
    assert torch.equal(queue.keys, other.keys)
    assert torch.equal(queue.pointer, other.pointer)


def test_the_queue_refuses_by_value() -> None:
    queue = KeyQueue(4, 6)
    before = queue.keys.clone()
    for keys, named in ((torch.zeros(4, 4), "6 keys.*4 clips"), (torch.zeros(2, 3), r"\(2, 3\), expected \(any, 4\)")):
        with pytest.raises(ValueError, match=named):
            queue.enqueue(keys)
    assert torch.equal(queue.keys, before)
    with pytest.raises(ValueError, match="got 0 and 6"):
        KeyQueue(0, 6)


def _networks() -> tuple[nn.Module, nn.Module]:
    return tuple(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2))


def test_momentum_moves_parameters_and_leaves_statistics() -> None:
    slow, fast = _networks()
    fast[1].running_mean.fill_(3.0)
    before = [value.clone() for value in slow.parameters()]
    update_momentum(slow, fast, 0.9)
    for old, new, source in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * source)
    assert torch.equal(slow[1].running_mean, torch.zeros(4))
    update_momentum(slow, fast, 0.0)
    assert all(torch.equal(*pair) for pair in zip(slow.parameters(), fast.parameters(), strict=True))


def test_momentum_refuses_by_value() -> None:
    slow, fast = _networks()
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        update_momentum(slow, fast, 1.5)
    with pytest.raises(ValueError, match="Sequential and Linear differ"):
        update_momentum(slow, nn.Linear(3, 4))


def _enqueue_in_processes(rank: int, world_size: int) -> dict[str, Tensor]:
    queue = KeyQueue(4, 8, torch.Generator().manual_seed(0))
    for step in range(3):
        queue.enqueue(unit(2, 4, seed=10 * step + rank))
    own = torch.arange(3.0) + 10 * rank
    dealt, order = shuffle_batches(own, torch.Generator().manual_seed(5))
    torch.manual_seed(rank)
    told, told_order = shuffle_batches(own)
    try:
        KeyQueue(4, 6).enqueue(unit(2, 4))
        refused = torch.tensor(0)
    except ValueError:
        refused = torch.tensor(1)
    return {
        "keys": queue.keys,
        "pointer": queue.pointer,
        "gathered": gather_keys(own),
        "dealt": dealt,
        "restored": unshuffle_batches(dealt, order),
        "told": told,
        "told_restored": unshuffle_batches(told, told_order),
        "refused": refused,
    }


def test_processes_share_one_queue_and_deal_their_clips() -> None:
    found = run_processes(_enqueue_in_processes, 2)
    assert torch.equal(found[0]["keys"], found[1]["keys"])
    # Three steps of two processes with two keys each in a queue of eight: by step, and by rank within it.
    step = [torch.cat([unit(2, 4, seed=10 * number + rank) for rank in range(2)]) for number in range(3)]
    assert torch.equal(found[0]["keys"], torch.cat([step[2], step[1]]).T)
    assert found[0]["pointer"].tolist() == [4]
    everything = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    assert all(torch.equal(each["gathered"], everything) for each in found)
    dealt = torch.cat([each["dealt"] for each in found])
    assert torch.equal(dealt.sort().values, everything)
    assert not torch.equal(dealt, everything)
    # Without a generator the processes' own random states differ, and the first one's order holds for both.
    assert torch.equal(torch.cat([each["told"] for each in found]).sort().values, everything)
    for rank, each in enumerate(found):
        assert torch.equal(each["restored"], torch.arange(3.0) + 10 * rank)
        assert torch.equal(each["told_restored"], torch.arange(3.0) + 10 * rank)
        assert each["refused"] == 1, "6 is no multiple of the 4 clips of both processes"
