"""SMILE's pretraining batches: backgrounds, pasted objects and masks, each drawn from its clip's seed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tubelets import SmileConfig
from tubelets.data.assets.objects import ShapeObjects
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.spatial import MultiScaleCrop
from tubelets.masking import trajectory_tokens
from tubelets.models.common.auto import pretraining_collator
from tubelets.models.methods.smile.processing_smile import SmileCollator
from videos import make_video

SIZES: dict[str, Any] = {"image_size": 64, "patch_size": 8, "num_frames": 8, "objects": "shapes"}


def items(count: int = 4, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "pixel_values": torch.randint(
                256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
            ),
            "seed": seed,
        }
        for seed in range(first, first + count)
    ]


def collate(given: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return SmileCollator(SmileConfig(**{**SIZES, **changes}))(given)


def test_objects_move_over_the_clips_and_nothing_else_changes() -> None:
    given = items()
    before = torch.stack([item["pixel_values"] for item in given])
    config = SmileConfig(**SIZES)
    collator = SmileCollator(config)
    batch = collator(given)
    changed = (batch["pixel_values"] != before).any(dim=2)
    assert torch.equal(torch.stack([item["pixel_values"] for item in given]), before), "items are not written to"
    settings = config.motion
    assert settings is not None
    _, motion = collator.plan(before.shape, settings, [item["seed"] for item in given])
    boxes = motion.boxes
    # A rotated object stays within its box's diagonal of the box's centre.
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).float().norm(dim=-1) / 2
    reach = torch.stack((centre - half[..., None] - 2, centre + half[..., None] + 2), dim=-2)
    places = torch.arange(64)
    across = (places >= reach[..., 0, 0, None]) & (places <= reach[..., 1, 0, None])
    down = (places >= reach[..., 0, 1, None]) & (places <= reach[..., 1, 1, None])
    allowed = (down[..., :, None] & across[..., None, :]).any(dim=1)
    assert not bool((changed & ~allowed).any())
    assert bool(changed.flatten(2).any(dim=2).float().mean() > 0.9), "nearly every frame shows an object"


def test_a_clip_does_not_depend_on_its_batch() -> None:
    whole = collate(items(4))
    one = collate(items(1, first=2))
    # Rendering rounds positions relative to the batch: a few pixels may differ by one grey level.
    difference = (whole["pixel_values"][2:3].int() - one["pixel_values"].int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < 1e-3
    assert torch.equal(whole["bool_masked_pos"][2, 0], one["bool_masked_pos"][0, 0])
    again = collate(items(4))
    assert all(torch.equal(whole[name], again[name]) for name in ("pixel_values", "bool_masked_pos"))
    other = collate(items(4, first=10))
    assert not torch.equal(whole["bool_masked_pos"], other["bool_masked_pos"])


@pytest.mark.parametrize("mask_type", ["trajectory", "tube", "random"])
def test_masks_have_the_count_of_the_configuration(mask_type: str) -> None:
    batch = collate(items(), mask_type=mask_type)
    expected = 4 * int(0.8 * 64) if mask_type != "random" else int(0.8 * 256)
    assert batch["num_masked"] == expected
    assert batch["bool_masked_pos"].shape == (4, 2, 256)
    assert bool((batch["bool_masked_pos"].sum(dim=2) == expected).all())


def test_masks_follow_the_objects() -> None:
    config = SmileConfig(**SIZES, mask_ratio=0.5)
    collator = SmileCollator(config)
    settings = config.motion
    assert settings is not None
    batch = collator(items(8))
    _, motion = collator.plan((8, 8, 3, 64, 64), settings, list(range(8)))
    trajectory = trajectory_tokens(motion.boxes, config.grid, 8)
    hidden = batch["bool_masked_pos"][:, 0]
    assert float(hidden[trajectory].float().mean()) > 0.8
    assert float(hidden[~trajectory].float().mean()) < 0.5


def test_the_second_mask_is_another_clips_or_the_clips_own() -> None:
    permuted = collate(items(6))["bool_masked_pos"]
    firsts = {tuple(mask.tolist()) for mask in permuted[:, 0]}
    assert {tuple(mask.tolist()) for mask in permuted[:, 1]} == firsts
    resampled = collate(items(6), second_mask="resample")["bool_masked_pos"]
    assert torch.equal(resampled[:, 0], permuted[:, 0])
    assert not firsts & {tuple(mask.tolist()) for mask in resampled[:, 1]}
    alone = collate(items(1, first=3), second_mask="resample")["bool_masked_pos"]
    assert torch.equal(alone[0], resampled[3])
    assert collate(items(), masks_per_clip=1)["bool_masked_pos"].shape[1] == 1


def plain(**changes: Any) -> Tensor:
    return collate(items(), num_objects=0, mask_type="tube", **changes)["pixel_values"]


def test_the_second_stage_leaves_clips_alone() -> None:
    assert torch.equal(plain(), torch.stack([item["pixel_values"] for item in items()]))


def test_backgrounds() -> None:
    videos = torch.stack([item["pixel_values"] for item in items()])
    still, black, noise = (plain(background=name) for name in ("still", "black", "noise"))
    assert torch.equal(still, videos[:, :1].expand_as(videos))
    assert not bool(black.any())
    assert torch.equal(noise, noise[:, :1].expand_as(noise)), "noise stands still"
    assert not torch.equal(noise[0], noise[1])
    levels = torch.bincount(noise[:, 0].flatten().int(), minlength=256).float()
    assert float(levels.min() / levels.mean()) > 0.5, "all grey levels are equally likely"
    assert torch.equal(plain(background="noise"), noise)


@pytest.mark.parametrize("background", ["still", "black", "noise"])
def test_one_frame_is_enough_where_it_is_repeated(background: str) -> None:
    short = [{**item, "pixel_values": item["pixel_values"][:1]} for item in items()]
    config = SmileConfig(**SIZES, background=background)
    assert config.pretraining_specs["pixel_values"].num_frames == 1
    assert torch.equal(SmileCollator(config)(short)["pixel_values"], SmileCollator(config)(items())["pixel_values"])


def test_objects_can_be_given_and_unknown_ones_are_refused() -> None:
    config = SmileConfig(**{**SIZES, "objects": "no such set"})
    with pytest.raises(ValueError, match=r"no such set.*'shapes', 'emoji'"):
        SmileCollator(config)(items())
    batch = SmileCollator(config, ShapeObjects().subset([0]))(items())
    assert batch["pixel_values"].shape == (4, 8, 3, 64, 64)


def make_shards(folder: Path) -> Path:
    records = []
    for number in range(6):
        path = folder / f"{number}.mp4"
        path.write_bytes(make_video(10, 64, 80, seed=number))
        records.append(VideoRecord(path, None, None, str(number)))
    build_shards(records, folder / "shards", clips_per_shard=3, progress=False)
    return folder / "shards"


def batches(shards: Any, config: SmileConfig, num_workers: int) -> list[dict[str, Any]]:
    stream = ClipStream(
        open_source(shards),
        ClipSpec(config.pretraining_specs["pixel_values"].num_frames, 1),
        MultiScaleCrop(64),
        split="samples",
        batch_size=2,
        shuffle_window=4,
    )
    return list(ClipLoader(stream, num_workers, pretraining_collator(config)))


@pytest.mark.parametrize("source", ["videos", "blank"])
def test_the_number_of_workers_changes_nothing(source: str, tmp_path: Any) -> None:
    shards = "blank://6" if source == "blank" else make_shards(tmp_path)
    config = SmileConfig(**SIZES, background="noise" if source == "blank" else "video")
    alone, helped = (batches(shards, config, workers) for workers in (0, 2))
    assert len(alone) == len(helped) == 3
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("pixel_values", "bool_masked_pos"))
