"""The properties of structured_noise_masking.md, section 10."""

import pickle

import pytest
import torch

from tubelets.masking.noise import color_noise, gaussian_response, threshold_noise
from tubelets.masking.noise_masks import NOISE_TYPES, NoiseMaskGenerator, count_visible
from tubelets.masking.regularized_blue import clustering_energy, clustering_score, regularized_blue_masks

GRID = (8, 14, 14)
SMALL = {"bank_size": 4, "volume_shape": (16, 32, 32)}
RATIOS = (0.5, 0.6, 0.75, 0.8, 0.9, 0.95)
VIDEO_KINDS = (*(kind for kind in NOISE_TYPES if kind != "regularized_blue"), "random", "tube")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(kind, count=200, ratio=0.9, **options):
    return NoiseMaskGenerator(kind, GRID, ratio, **{**SMALL, **options})(count, generator=generator())


def visible_maps(masks):
    return (~masks).view(-1, *GRID).float()


def correlation(masks, lag=1):
    """Mean Pearson correlation of the visibility maps of slots that are `lag` apart."""
    maps = visible_maps(masks).flatten(2)
    maps = maps - maps.mean(dim=-1, keepdim=True)
    maps = maps / maps.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return (maps[:, :-lag] * maps[:, lag:]).sum(dim=-1).mean().item()


def neighbours(masks):
    """Share of visible tokens with a visible 4-neighbour in the same slot."""
    maps = visible_maps(masks)
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
    near = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return ((near > 0) * maps).sum().item() / maps.sum().item()


@pytest.mark.parametrize("rule", ["masked_floor", "kept_floor"])
@pytest.mark.parametrize("per_slot", [True, False])
@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_counts_are_exact(kind, per_slot, rule):
    for ratio in RATIOS:
        made = NoiseMaskGenerator(
            kind, GRID, ratio, per_slot=per_slot, count_rule=rule, bank_size=1, volume_shape=(8, 16, 16)
        )
        masks = made(3, generator=generator())
        assert masks.shape == (3, 1568)
        assert masks.dtype == torch.bool
        assert masks.sum(dim=1).tolist() == [made.num_masked] * 3
        if per_slot and kind != "random":
            visible = count_visible(196, ratio, rule)
            assert (~masks).view(3, 8, 196).sum(dim=2).unique().tolist() == [visible]
            if rule == "masked_floor":
                tube = 8 * int(ratio * 196)
                assert made.num_masked == tube


@pytest.mark.parametrize(
    ("kind", "low", "high", "corr", "near"),
    [
        ("random", None, None, 0.0, 0.32),
        ("tube", None, None, 1.0, 0.32),
        ("green3d", 0.5, 1.0, 0.10, 0.55),
        ("green3d", 0.5, 2.0, 0.16, 0.65),
        ("green3d", 1.0, 2.0, 0.41, 0.91),
        ("green2d", 0.5, 2.0, 1.0, 0.62),
        ("blue3d", 1.0, None, -0.02, 0.27),
        ("red3d", 1.5, None, 0.65, 0.98),
    ],
)
def test_clusters_and_coherence_are_those_of_the_reference(kind, low, high, corr, near):
    masks = draw(kind, 300, sigma_low=low, sigma_high=high, bank_size=8, volume_shape=(32, 64, 64))
    assert correlation(masks) == pytest.approx(corr, abs=0.06)
    assert neighbours(masks) == pytest.approx(near, abs=0.06)


def test_coherence_decays_with_time():
    masks = draw("green3d", 400, sigma_low=1.0, sigma_high=2.0, bank_size=8, volume_shape=(32, 64, 64))
    assert [correlation(masks, lag) for lag in (1, 2, 3)] == pytest.approx([0.41, 0.08, -0.02], abs=0.04)


def test_default_green_masks_resemble_those_that_the_paper_shows():
    masks = draw("green3d", 400, 0.75, bank_size=16, volume_shape=(32, 64, 64))
    assert [correlation(masks, lag) for lag in (1, 2, 3)] == pytest.approx([0.47, 0.16, 0.10], abs=0.11)
    assert neighbours(masks) > 0.96
    # A temporal deviation of its own shows in time alone; given deviations hold along all axes.
    given = {"sigma_low": 1.0, "sigma_high": 2.0, "bank_size": 8, "volume_shape": (32, 64, 64)}
    same, short = draw("green3d", 200, **given), draw("green3d", 200, temporal_sigma_ratio=0.6, **given)
    assert torch.equal(same, draw("green3d", 200, temporal_sigma_ratio=1.0, **given))
    assert correlation(short) < correlation(same) - 0.15
    assert neighbours(short) == pytest.approx(neighbours(same), abs=0.03)


def spectrum(color, low, high=None, axis=0):
    """Power of the noise along one axis, all other frequencies 0, averaged over volumes."""
    power = torch.zeros(64, 64, 64)
    for seed in range(8):
        noise = color_noise(torch.randn(64, 64, 64, generator=generator(seed)), color, low, high)
        assert abs(noise.mean().item()) < 1e-5
        assert noise.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
        power += torch.fft.fftn(noise).abs() ** 2 / noise.numel()
    # A thin pencil around the axis has enough bins for a mean.
    near = power.movedim(axis, 0)[:, [0, 1, -1]][:, :, [0, 1, -1]]
    return near.mean(dim=(1, 2))[:33]


def test_spectra_are_those_of_the_filters():
    blue, red, green = spectrum("blue", 1.0), spectrum("red", 1.5), spectrum("green", 0.5, 2.0)
    assert blue[0] < 0.05 * blue.max()
    assert blue[:4].mean() < blue[12:16].mean() < blue[28:].mean()
    assert red[:3].mean() > red[6:9].mean() > red[14:17].mean()
    assert green[0] < 0.1 * green.max()
    frequencies = torch.arange(33) / 64
    smooth = torch.nn.functional.avg_pool1d(green[None, None], 3, 1, 1)[0, 0]
    assert frequencies[smooth.argmax()].item() == pytest.approx(0.194, abs=0.04)
    assert spectrum("green", 1.0, 2.0)[32] < 0.01 * spectrum("green", 1.0, 2.0).max()


@pytest.mark.parametrize(("low", "high", "expected"), [(0.5, 2.0, 0.36), (1.0, 2.0, 0.71), (1.0, 3.0, 0.75)])
def test_neighbouring_slots_of_green_noise_are_correlated(low, high, expected):
    found = []
    for seed in range(4):
        noise = color_noise(torch.randn(32, 64, 64, generator=generator(seed)), "green", low, high)
        found.append((noise * noise.roll(1, dims=0)).mean().item())
    assert sum(found) / 4 == pytest.approx(expected, abs=0.03)


def test_every_place_is_visible_about_equally_often():
    masks = draw("green3d", 6000, sigma_low=0.5, sigma_high=2.0, bank_size=8, volume_shape=(32, 64, 64))
    share = visible_maps(masks).mean(dim=(0, 1))
    expected = 20 / 196
    # Slots of a clip are not independent; a quarter of them counts.
    error = (expected * (1 - expected) / (6000 * 2)) ** 0.5
    border = torch.ones(14, 14, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert share[border].mean().item() == pytest.approx(share[~border].mean().item(), rel=0.06)
    assert (share - expected).abs().max().item() < 8 * error


def test_crops_wrap_without_seams():
    made = NoiseMaskGenerator("green3d", GRID, 0.9, **SMALL)
    noise = made.bank[0]
    jumps = (noise - noise.roll(1, dims=1)).abs().mean(dim=(0, 2))
    assert jumps[0].item() == pytest.approx(jumps.mean().item(), rel=0.25)


def test_regularized_blue_keeps_patches_apart_and_covers_time_evenly():
    grid, kept = (64, 8), 102
    masks = regularized_blue_masks(48, grid, kept, generator=generator())
    visible = ~masks
    assert visible.sum(dim=(1, 2)).unique().tolist() == [kept]
    assert clustering_energy(visible).mean() < 30
    near = clustering_score(visible, (1.0,))
    assert ((near > 0) & visible).sum() / visible.sum() < 0.2
    assert visible.sum(dim=2).float().std(dim=1).mean() < 0.85
    assert len({mask.numpy().tobytes() for mask in masks}) == 48


def test_regularized_blue_generator_draws_from_its_bank():
    made = NoiseMaskGenerator("regularized_blue", (16, 8), 0.8, count_rule="kept_floor", bank_size=8, flips=False)
    masks = made(20, generator=generator())
    bank = {mask.numpy().tobytes() for mask in made.bank}
    assert {mask.numpy().tobytes() for mask in masks.view(20, 16, 8)} <= bank
    assert masks.sum(dim=1).unique().tolist() == [made.num_masked]
    flipped = NoiseMaskGenerator("regularized_blue", (16, 8), 0.8, count_rule="kept_floor", bank_size=8)
    found = {mask.numpy().tobytes() for mask in flipped(60, generator=generator()).view(60, 16, 8)}
    assert not found <= bank
    assert NoiseMaskGenerator("regularized_blue", (16, 8), 0.8).bank_size == 2048


def test_draws_depend_on_seed_and_generator_only():
    made = NoiseMaskGenerator("green3d", GRID, 0.9, **SMALL)
    first = made(4, generator=generator(1))
    copy = pickle.loads(pickle.dumps(NoiseMaskGenerator("green3d", GRID, 0.9, **SMALL)))
    assert torch.equal(copy(4, generator=generator(1)), first)
    assert not torch.equal(made(4, generator=generator(2)), first)
    other = NoiseMaskGenerator("green3d", GRID, 0.9, **SMALL, seed=1)
    assert not torch.equal(other(4, generator=generator(1)), first)
    assert not torch.equal(first[0], first[1])


def test_ties_leave_the_first_visible():
    assert threshold_noise(torch.zeros(2, 5), 2).tolist() == [[False, False, True, True, True]] * 2
    with pytest.raises(ValueError, match="num_visible"):
        threshold_noise(torch.zeros(2, 5), 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "pink3d"}, "kind must be one of"),
        ({"kind": "green3d", "grid": (8, 14)}, "3 positive integers"),
        ({"kind": "regularized_blue"}, "2 positive integers"),
        ({"kind": "green3d", "mask_ratio": 1.0}, "mask_ratio"),
        ({"kind": "green3d", "mask_ratio": 0.999, "count_rule": "kept_floor"}, "no visible token"),
        ({"kind": "green3d", "volume_shape": (4, 64, 64)}, "volume_shape"),
        ({"kind": "red3d", "sigma_high": 2.0}, "sigma_high"),
        ({"kind": "green3d", "temporal_sigma_ratio": 0.0}, "temporal_sigma_ratio must be positive, got 0.0"),
        ({"kind": "green3d", "bank_size": 0}, "bank_size"),
        ({"kind": "green3d", "count_rule": "round"}, "count_rule"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseMaskGenerator(**{"grid": GRID, **arguments})


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match="color must be"):
        color_noise(torch.zeros(4, 4), "pink", 1.0)
    with pytest.raises(ValueError, match="needs a sigma_high"):
        color_noise(torch.zeros(4, 4), "green", 1.0)
    with pytest.raises(ValueError, match="sigma must be positive"):
        gaussian_response((4, 4), (1.0, -1.0))


@pytest.mark.parametrize("values", ["all different", "some equal", "all equal"])
def test_thresholds_agree_with_a_full_sort(values):
    noise = torch.randn(5, 3, 40, generator=generator(0))
    if values != "all different":
        noise = noise.round() if values == "some equal" else torch.zeros_like(noise)
    for visible in (0, 1, 13, 39, 40):
        order = noise.double().argsort(dim=-1, descending=True, stable=True)
        expected = torch.ones(noise.shape, dtype=torch.bool).scatter(-1, order[..., :visible], False)
        assert torch.equal(threshold_noise(noise, visible), expected)
