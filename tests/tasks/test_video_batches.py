from pathlib import Path
from typing import Any

import pytest
import torch
from clip_shards import clip_rows, write_parquet

from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.augmentations import RandomErasing
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.spatial import CenterCrop
from tubelets.tasks.classification.video_batches import BatchAugmentation, ClassificationCollator, ViewCrops

CLIP = VideoSpec(2, (8, 8))
COLLATE = ClassificationCollator(CLIP, num_labels=3)


def item(**changes: Any) -> dict[str, Any]:
    return {
        "pixel_values": torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        "label": 1,
        "clip_id": "x",
        "seed": 5,
        **changes,
    }


def test_a_batch() -> None:
    batch = COLLATE([item(), item(label=2, seed=6)])
    assert batch["pixel_values"].shape == (2, 2, 3, 8, 8)
    assert batch["labels"].tolist() == [1, 2]
    assert (batch["clip_ids"], batch["seeds"]) == (["x", "x"], [5, 6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": torch.zeros(3, 3, 8, 8)}, "clip x has 3 frames and the model expects 2"),
        ({"pixel_values": torch.zeros(2, 3, 8, 9)}, "clip x has 8 x 9 pixels and the model expects 8 x 8"),
        ({"label": 3}, r"clip x has label 3 and the model has 3 classes \(0 to 2\)"),
        ({"label": -1}, "clip x has label -1"),
        ({"label": "run"}, "clip x has the label 'run'; expected a class number"),
        ({"label": [0, 1]}, r"clip x has the label \[0, 1\]; expected a class number"),
        ({"label": None}, "clip x has the label None"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        COLLATE([item(), item(**changes)])


def test_several_labels() -> None:
    collate = ClassificationCollator(CLIP, 3, multi_label=True)
    assert collate([item(label=[]), item(label=[0, 2])])["labels"].tolist() == [[0, 0, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match=r"expected a list of class numbers \(multi_label\)"):
        collate([item(label=1)])


def test_views_are_spread_along_the_longer_side() -> None:
    clip = torch.arange(24, dtype=torch.uint8).expand(2, 3, 8, 24)
    views = ViewCrops(8, crops=3)(clip, torch.Generator())
    assert views.shape == (3, 2, 3, 8, 8)
    assert views[:, 0, 0, 0, 0].tolist() == [0, 8, 16]
    assert torch.equal(ViewCrops(8)(clip, torch.Generator())[0], views[1])
    with pytest.raises(ValueError, match="crops must be 1"):
        ViewCrops(8, crops=2)


def test_order_of_the_batch_augmentation() -> None:
    """Erasing comes before mixing: the noise of one clip shows in its partner, weighted."""
    clips = torch.zeros(2, 2, 3, 16, 16, dtype=torch.uint8)
    plain = BatchAugmentation((0.0,) * 3, (1.0,) * 3, 4, RandomErasing(p=1.0), None, 0.1)
    mixed = BatchAugmentation((0.0,) * 3, (1.0,) * 3, 4, RandomErasing(p=1.0), Mixing(cutmix_alpha=0.0), 0.1)
    labels, seeds = torch.tensor([0, 1]), [11, 12]
    before, targets = plain(clips, labels, seeds)
    after, mixed_targets = mixed(clips, labels, seeds)
    weight = (mixed_targets[0, 0] - targets[1, 0]) / (targets[0, 0] - targets[1, 0])
    assert 0 < weight < 1
    torch.testing.assert_close(after, weight * before + (1 - weight) * before.flip(0))


def test_pixels_are_normalised_before_erasing() -> None:
    augment = BatchAugmentation((0.5,) * 3, (0.25,) * 3, 2, None)
    pixels, _ = augment(torch.full((1, 1, 3, 4, 4), 255, dtype=torch.uint8), torch.tensor([0]), [1])
    assert pixels.unique().tolist() == [2.0]


def test_seeds_decide_and_nothing_else() -> None:
    clips = torch.randint(256, (4, 2, 3, 16, 16), dtype=torch.uint8)
    augment = BatchAugmentation((0.5,) * 3, (0.5,) * 3, 3, RandomErasing(p=0.5), Mixing(), 0.1)
    labels = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(0)
    first = augment(clips, labels, [1, 2, 3, 4])
    torch.manual_seed(1)
    second = augment(clips, labels, [1, 2, 3, 4])
    other = augment(clips, labels, [1, 2, 3, 5])
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def repeated(folder: Path, same_frames: bool, workers: int = 0) -> list[dict[str, Any]]:
    stream = ClipStream(
        open_source(folder),
        ClipSpec(num_frames=2, stride=1, clips_per_video=2, same_frames=same_frames),
        lambda clip, generator: CenterCrop(8)(clip) + torch.randint(2, (), generator=generator, dtype=torch.uint8),
        shuffle_window=0,
        split="samples",
        batch_size=4,
    )
    collate = ClassificationCollator(CLIP, 3)
    return list(ClipLoader(stream, workers, collate))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("shards"), clip_rows(6), [3, 3])


def test_repeated_augmentation_shows_the_same_frames(shards: Path) -> None:
    same = torch.cat([batch["pixel_values"] for batch in repeated(shards, True)]).unflatten(0, (-1, 2))
    # The two clips of a video differ by what the transform drew, at most one grey level, and not always by nothing.
    differences = (same[:, 0].int() - same[:, 1].int()).abs().flatten(1).amax(dim=1)
    assert set(differences.tolist()) == {0, 1}
    anew = torch.cat([batch["pixel_values"] for batch in repeated(shards, False)]).unflatten(0, (-1, 2))
    assert int((anew[:, 0].int() - anew[:, 1].int()).abs().max()) > 1


def test_repeated_augmentation_of_workers(shards: Path) -> None:
    def crop(clip: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return CenterCrop(8)(clip)

    def batches(workers: int) -> list[list[int]]:
        stream = ClipStream(
            open_source(shards),
            ClipSpec(2, 1, 2, same_frames=True),
            crop,
            split="samples",
            batch_size=4,
        )
        return [batch["seeds"] for batch in ClipLoader(stream, workers, ClassificationCollator(CLIP, 3))]

    assert batches(0) == batches(2)


def test_a_central_crop_of_a_larger_frame() -> None:
    clip = torch.arange(32 * 48, dtype=torch.uint8).view(1, 1, 32, 48).expand(2, 3, -1, -1)
    views = ViewCrops(size=28, short_side=32)(clip, torch.Generator())
    assert torch.equal(views, clip[None, :, :, 2:30, 10:38])
    for wrong in ({"crops": 3, "short_side": 32}, {"short_side": 20}):
        with pytest.raises(ValueError, match="short_side"):
            ViewCrops(size=28, **wrong)
