import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from torch import Tensor

from tubelets.data.transforms.mixing import Mix, Mixing, smooth_one_hot


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_smoothed_labels_have_the_values_of_the_recipe() -> None:
    smoothed = smooth_one_hot(torch.tensor([3, 0]), 400, 0.1)
    assert smoothed[0, 3] == pytest.approx(0.9 + 0.1 / 400)
    assert smoothed[0, 4] == pytest.approx(0.1 / 400)
    assert torch.allclose(smoothed.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(("labels", "smoothing"), [([5], 0.0), ([-1], 0.0), ([0], 1.0)])
def test_bad_labels_are_refused(labels: list[int], smoothing: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        smooth_one_hot(torch.tensor(labels), 5, smoothing)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mixed_targets_are_those_of_timm(weight: float) -> None:
    labels = torch.tensor([0, 2, 1, 2])
    expected = mixup_target(labels, 5, lam=weight, smoothing=0.1)
    torch.testing.assert_close(Mix(weight).targets(smooth_one_hot(labels, 5, 0.1)), expected)


def test_mixup_blends_with_the_reversed_batch() -> None:
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 2, 3, 4, 4)
    mixed = Mix(0.75).clips(clips)
    assert mixed[:, 0, 0, 0, 0].tolist() == [0.75, 1.25, 1.75, 2.25]
    assert torch.equal(mixed, mixed[:, :1, :1, :1, :1].expand_as(mixed))


def test_cutmix_takes_one_box_in_all_frames() -> None:
    clips = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 3, 3, 8, 8)
    mixed = Mix(0.5, (2, 3, 6, 7)).clips(clips)
    box = torch.zeros(8, 8)
    box[2:6, 3:7] = 1
    assert torch.equal(mixed[0], box.expand(3, 3, 8, 8))
    assert torch.equal(mixed[1], 1 - box.expand(3, 3, 8, 8))


def test_the_weight_of_cutmix_is_the_area_that_stays() -> None:
    random = generator()
    for _ in range(200):
        mix = Mixing(mixup_alpha=0.0).draw(30, 50, random)
        assert mix is not None
        assert mix.box is not None
        top, left, bottom, right = mix.box
        assert 0 <= top <= bottom <= 30
        assert 0 <= left <= right <= 50
        assert mix.weight == pytest.approx(1 - (bottom - top) * (right - left) / 1500)


def weights(mixing: Mixing, count: int = 4000) -> Tensor:
    random = generator(3)
    draws = [mixing.draw(100000, 100000, random) for _ in range(count)]
    return torch.tensor([draw.weight for draw in draws if draw is not None], dtype=torch.float64)


def test_mixup_weights_follow_their_distribution() -> None:
    found = weights(Mixing(mixup_alpha=0.8, cutmix_alpha=0.0))
    expected = np.random.default_rng(0).beta(0.8, 0.8, 200000)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert found.quantile(share) == pytest.approx(np.quantile(expected, share), abs=0.03)


def test_both_kinds_are_equally_frequent_and_always_one_of_them() -> None:
    random = generator()
    draws = [Mixing().draw(8, 8, random) for _ in range(2000)]
    assert None not in draws
    assert sum(draw.box is not None for draw in draws if draw) / 2000 == pytest.approx(0.5, abs=0.04)


def test_a_share_of_the_batches_can_stay_as_it_is() -> None:
    assert len(weights(Mixing(probability=0.25), 2000)) / 2000 == pytest.approx(0.25, abs=0.03)
    assert not Mixing(mixup_alpha=0.0, cutmix_alpha=0.0).active
    assert Mixing(mixup_alpha=0.0, cutmix_alpha=0.0).draw(8, 8, generator()) is None


def test_every_draw_moves_the_generator_equally() -> None:
    states = []
    for mixing in (Mixing(), Mixing(cutmix_alpha=0.0), Mixing(probability=0.0)):
        random = generator(5)
        mixing.draw(8, 8, random)
        states.append(random.get_state())
    assert all(torch.equal(states[0], other) for other in states)


def test_one_draw_a_batch_and_the_same_seed_the_same_batch() -> None:
    clips, targets = torch.randn(4, 2, 3, 8, 8, generator=generator()), torch.eye(4)
    first = Mixing()(clips, targets, generator(7))
    second = Mixing()(clips, targets, generator(7))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    diagonal = first[1].diagonal()
    assert torch.allclose(diagonal, diagonal[:1].expand(4))
    assert torch.allclose(first[1].sum(dim=1), torch.ones(4))


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="even number of them, got 3"):
        Mixing()(torch.zeros(3, 1, 3, 4, 4), torch.eye(3), generator())


@pytest.mark.parametrize("arguments", [{"mixup_alpha": -1.0}, {"probability": 2.0}, {"cutmix_share": -0.1}])
def test_bad_numbers_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Mixing(**arguments)
