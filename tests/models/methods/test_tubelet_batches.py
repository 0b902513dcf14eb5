"""Tubelet-Contrast's batches and the model that trains on them."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForPreTraining

from distributed import run_processes
from tubelets.models.common.auto import pretraining_collator
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import TubeletContrastForPreTraining
from tubelets.models.methods.tubelet_contrast.processing_tubelet_contrast import TubeletContrastCollator
from tubelets.motion import recolour, sample_colour_change
from tubelets.motion.colours import change_colours

SMALL = {
    "image_size": 32,
    "num_frames": 4,
    "backbone_options": {"hidden_sizes": [8, 8, 16, 16], "stem_size": 6, "depths": [1, 1, 1, 1]},
    "projection_size": 8,
    "queue_size": 12,
}


def config(**changes: Any) -> TubeletContrastConfig:
    return TubeletContrastConfig(**{**SMALL, **changes})


def items(count: int, seed: int = 0) -> list[dict[str, Any]]:
    clips = torch.randint(256, (count, 4, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return [{"pixel_values": clip, "seed": seed + place} for place, clip in enumerate(clips)]


def collate(given: list[dict[str, Any]], **changes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Clips as they came, queries and keys."""
    batch = TubeletContrastCollator(config(**changes))(given)
    return torch.stack([item["pixel_values"] for item in given]), batch["pixel_values"], batch["key_pixel_values"]


def test_a_pair_shares_patches_and_nothing_else() -> None:
    clips, queries, keys = collate(items(6), colour_probability=0.0, patch_scales=(64.0,))
    partners = clips.roll(3, dims=0)
    pasted = (queries != clips).any(dim=2) & (keys != partners).any(dim=2)
    share = pasted.flatten(1).float().mean(dim=1)
    assert ((share > 0.02) & (share < 0.7)).all()
    # Where a patch is opaque the two clips are equal, whatever is behind it; elsewhere they are unrelated noise.
    equal = (queries.int() - keys.int()).abs().amax(dim=2) <= 60
    assert equal[pasted].float().mean() > 0.6
    assert equal[~pasted].float().mean() < 0.2
    untouched = ~pasted[:, :, None].expand_as(clips)
    assert (queries == clips)[untouched].float().mean() > 0.99


def test_patches_come_from_the_query_and_move() -> None:
    given = items(2)
    given[0]["pixel_values"] = torch.full_like(given[0]["pixel_values"], 255)
    given[1]["pixel_values"] = torch.zeros_like(given[1]["pixel_values"])
    _, queries, keys = collate(given, colour_probability=0.0, patch_transformation="none")
    assert (queries[0] >= 250).float().mean() > 0.97, "white patches on white, but for their rims"
    assert (keys[1] < 100).any(), "black patches on the white partner"
    white = (keys[0] > 100).any(dim=1)  # white patches on the black partner
    assert white.any(dim=(1, 2)).all()
    assert (white[0] != white[-1]).any(), "the patches do not move"


def test_patches_of_its_own_move_alike_in_both_clips() -> None:
    given = items(2)
    given[0]["pixel_values"] = torch.full_like(given[0]["pixel_values"], 255)
    given[1]["pixel_values"] = torch.zeros_like(given[1]["pixel_values"])
    changes = {"colour_probability": 0.0, "patch_transformation": "none"}
    _, queries, keys = collate(given, **changes, patches="own")
    for clips in (queries, keys):  # white on white and black on black, but for their rims
        assert ((clips >= 250) | (clips <= 5)).float().mean() > 0.97
    clips, queries, keys = collate(items(6), **changes, patches="own", patch_scales=(64.0,))
    _, shared_queries, shared_keys = collate(items(6), **changes, patch_scales=(64.0,))
    assert torch.equal(queries, shared_queries)
    partners = clips.roll(3, dims=0)
    covered, own = (shared_keys != partners).any(dim=2), (keys != partners).any(dim=2)
    # In the frame that a patch is cut from it lies on itself.
    assert (covered & own).float().sum() > 0.6 * covered.float().sum()
    assert (own & ~covered).float().mean() < 0.01
    equal = (queries.int() - keys.int()).abs().amax(dim=2) <= 60
    assert equal[covered].float().mean() < 0.2, "the two clips look alike"


def test_still_backgrounds_leave_only_patches_moving() -> None:
    _, queries, _ = collate(items(4), colour_probability=0.0, still_probability=1.0, motion_type="none",
                            patch_transformation="none", size_velocity=0.0)  # fmt: skip
    # Resting patches with changing opacity may differ a little from frame to frame; noise would differ everywhere.
    moved = (queries[:, 1:].int() - queries[:, :1].int()).abs().amax(dim=2) > 60
    assert moved.float().mean() < 0.1


def test_temporal_contrast_pairs_the_clips_of_a_video() -> None:
    clips, queries, keys = collate(items(6), contrast="temporal", colour_probability=0.0)
    assert torch.equal(queries, clips[::2])
    assert torch.equal(keys, clips[1::2])
    assert config(contrast="temporal").pretraining_specs["pixel_values"].clips_per_sample == 2


def test_a_batch_depends_on_its_clips_alone() -> None:
    first, again, other = (collate(items(4, seed)) for seed in (0, 0, 9))
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("patches", ["shared", "own"])
def test_several_processes_get_the_pairs_of_one(patches: str) -> None:
    """With samples divided one by one, each process has every second clip of the global batch."""
    changes = {"patches": patches, "colour_probability": 0.0, "still_probability": 0.5}
    given = items(8)
    coloured = TubeletContrastCollator(config(colour_probability=0.5))
    colours, halves = (coloured.prepare(each)["plan"].colours for each in (given, given[1::2]))
    assert torch.equal(colours[torch.arange(1, 8, 2)].hue, halves.hue)
    _, *whole = collate(given, **changes)
    for rank in range(2):
        _, *share = collate(given[rank::2], **changes)
        for part, every in zip(share, whole, strict=True):
            # Pasting rounds as the number of pixels of the batch has it; the motions are equal.
            difference = (part.int() - every[rank::2].int()).abs()
            assert difference.max() <= 1
            assert (difference > 0).float().mean() < 0.005


def _two_steps(rank: int, world_size: int, key_encoder: str) -> tuple[Tensor, list[Tensor]]:
    """Losses of two steps on a share of the global batch, and the last gradients; batch norm's statistics are fixed."""
    torch.manual_seed(0)
    model = TubeletContrastForPreTraining(config(key_encoder=key_encoder, queue_size=16)).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()
    trained = [each for each in model.parameters() if each.requires_grad]
    losses = []
    for step in range(2):
        batch = TubeletContrastCollator(config())(items(4, seed=10 * step))
        model.update_weights()
        loss = model(**{name: value[rank::world_size] for name, value in batch.items()}).loss
        gradients = list(torch.autograd.grad(loss, trained))
        losses.append(loss.detach())
        for values in [losses[-1], *gradients] if world_size > 1 else []:
            # As DistributedDataParallel does.
            torch.distributed.all_reduce(values)
            values /= world_size
        with torch.no_grad():
            for each, gradient in zip(trained, gradients, strict=True):
                each -= 0.1 * gradient
    return torch.stack(losses), gradients


@pytest.mark.parametrize("key_encoder", ["momentum", "shared"])
def test_two_processes_contrast_with_the_clips_of_both(key_encoder: str) -> None:
    """Two processes with two pairs each learn what one process with four pairs learns."""
    losses, gradients = _two_steps(0, 1, key_encoder)
    for found, found_gradients in run_processes(_two_steps, 2, key_encoder):
        torch.testing.assert_close(found, losses, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found_gradients, gradients, rtol=1e-3, atol=1e-6)


def test_colours_change_alike_in_both_clips() -> None:
    given = items(2)
    for item in given:
        item["pixel_values"] = torch.full_like(item["pixel_values"], 100)
    found = [collate([{**item, "seed": 50 * n + item["seed"]} for item in given], colour_probability=0.5)
             for n in range(8)]  # fmt: skip
    for _, queries, keys in found:
        torch.testing.assert_close(queries.float().mean(dim=(1, 3, 4)), keys.float().mean(dim=(1, 3, 4)))
    assert len({int(queries[0, 0, 0, 0, 0]) for _, queries, _ in found}) > 2


def test_recolouring_is_the_change_of_colours_rounded() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (12, 2, 3, 8, 8), generator=generator, dtype=torch.uint8)
    change = sample_colour_change(12, generator, probability=0.4)
    assert 0 < change.changes.sum() < 12
    expected = change_colours(frames, change).round().to(torch.uint8)
    assert torch.equal(recolour(frames.clone(), change), expected)


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [(1, {}, "got 1 clip"), (3, {"contrast": "temporal"}, "got 3 clips")],
)
def test_batches_that_cannot_be_paired(count: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate(items(count), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tubelets": 0}, r"\[1, 64\], got 0"),
        ({"still_probability": 1.5}, "got 1.5"),
        ({"num_frames": 1}, "got 1"),
        ({"patch_ratios": ()}, "ratios must be positive"),
    ],
)
def test_motions_that_cannot_be_drawn(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        config(**changes)


@pytest.mark.parametrize("transformation", ["rotation", "shear", "none"])
@pytest.mark.parametrize("path", ["gaussian", "linear", "none"])
def test_motion_settings_follow_the_configuration(transformation: str, path: str) -> None:
    motion = config(patch_transformation=transformation, motion_type=path).motion
    assert (motion.rotation_velocity > 0, motion.shear_velocity > 0) == (
        transformation == "rotation", transformation == "shear"
    )  # fmt: skip
    assert motion.path == {"gaussian": "smooth", "linear": "piecewise", "none": "none"}[path]
    assert motion.shift_clipped
    assert not config(align_clipped_patch=True).motion.shift_clipped


@pytest.mark.parametrize("key_encoder", ["momentum", "shared"])
def test_it_learns_one_batch_and_is_saved(key_encoder: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    cfg = config(key_encoder=key_encoder, momentum=0.9, temperature=0.1)
    model = TubeletContrastForPreTraining(cfg).train()
    assert hasattr(model, "queue") == hasattr(model, "key_encoder") == (key_encoder == "momentum")
    batch = pretraining_collator(cfg)(items(6))
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        output = model(**batch)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    if key_encoder == "shared":
        assert losses[-1] < 0.7 * losses[0]
    else:  # by now the queue holds the keys of this very batch, which cannot be told apart
        assert model.queue.pointer.item() == 0
        moved = zip(model.encoder.parameters(), model.key_encoder.parameters(), strict=True)
        assert any(not torch.equal(*pair) for pair in moved)
    assert output.query.shape == output.key.shape == (6, 8)
    assert output.key.requires_grad == (key_encoder == "shared")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).loss, model.eval()(**batch).loss)


def test_dealing_the_batch_changes_nothing_on_one_process() -> None:
    torch.manual_seed(0)
    model = TubeletContrastForPreTraining(config(shuffle_batches=True)).train()
    batch = pretraining_collator(model.config)(items(6))
    keys = model.encode_keys(batch["key_pixel_values"])
    model.config.shuffle_batches = False
    torch.testing.assert_close(keys, model.encode_keys(batch["key_pixel_values"]), atol=1e-5, rtol=1e-4)
