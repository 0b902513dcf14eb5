import json

import pytest
import torch
from torch.nn.functional import interpolate

from motion_by_hand import batch_of
from tubelets.benchmarks.camera_motion import SourceVideo
from tubelets.benchmarks.moving_objects import (
    OBJECT_MOTIONS,
    build_moving_objects,
    motion_file,
    sample_object_motion,
    turning_shows,
)
from tubelets.data.assets.objects import ShapeObjects
from tubelets.data.modalities.video import encode_video, open_video
from tubelets.data.sources.opening import open_source
from tubelets.motion import MotionRecord, object_masks, object_patches

SIZE, FRAMES = 64, 8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def boxes(motion, seed=0):
    """Centres (T, 2), sides (T,) and angles (T,) of one object."""
    drawn = sample_object_motion(motion, FRAMES, SIZE, generator(seed))
    box = drawn.boxes[0, 0].float()
    return (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).amax(dim=1), drawn.angles[0, 0].float()


@pytest.mark.parametrize("motion", OBJECT_MOTIONS)
def test_each_class_moves_as_its_name_says_and_in_no_other_way(motion):
    for seed in range(20):
        centres, sides, angles = boxes(motion, seed)
        travel, growth, turn = centres[-1] - centres[0], sides[-1] / sides[0], angles[-1] - angles[0]
        direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
        along = (travel * torch.tensor(direction)).sum()
        if any(direction):
            assert 0.2 * SIZE <= along <= 0.36 * SIZE
        assert (travel - along * torch.tensor(direction)).abs().max() <= 1
        assert growth > 1.5 if motion == "grow" else growth < 0.67 if motion == "shrink" else abs(growth - 1) < 0.1
        expected = {"turn clockwise": 1, "turn anticlockwise": -1}.get(motion, 0)
        assert turn * expected >= 59 if expected else turn == 0


def test_only_objects_without_round_symmetry_show_that_they_turn():
    disc = torch.zeros(4, 33, 33)
    rows, columns = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
    disc[3] = 255.0 * ((rows**2 + columns**2) < 200)
    assert not turning_shows(disc.to(torch.uint8))
    half = disc.clone()
    half[0, :16] = 255.0
    assert turning_shows(half.to(torch.uint8))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    result = {}
    for number, split in enumerate(("train", "test")):
        picture = torch.randint(256, (1, 3, 10, 14), generator=generator(number)).float()
        clip = interpolate(picture, scale_factor=8, mode="bilinear").to(torch.uint8).expand(20, -1, -1, -1)
        path = folder / f"{split}.mp4"
        path.write_bytes(encode_video(clip.contiguous()))
        result[split] = [SourceVideo(split, path)]
    return result


def build(folder, sources, **changes):
    options = {"num_clips": {"train": 18, "test": 9}, "size": 48, "progress": False, **changes}
    return build_moving_objects(folder, sources, ShapeObjects(), **options)


def samples_of(folder, split):
    source = open_source(folder, split=split)
    return source, [sample for shard in range(source.num_shards) for sample in source.iterate_shard(shard)]


def read_motions(folder, split):
    lines = (folder / motion_file(split)).read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return {entry["clip_id"]: MotionRecord.from_dict(entry["motion"]) for entry in entries}


def frames_of(source, sample):
    with open_video(source.read_bytes(sample)) as video:
        return video.get_frames(range(video.num_frames))


def test_shards_are_balanced_captioned_and_their_objects_disjoint(tmp_path, sources):
    build(tmp_path, sources)
    used = {}
    for split, count in (("train", 18), ("test", 9)):
        source, samples = samples_of(tmp_path, split)
        assert source.class_names == list(OBJECT_MOTIONS)
        assert torch.bincount(torch.tensor([sample.label for sample in samples])).tolist() == [count // 9] * 9
        records = read_motions(tmp_path, split)
        assert set(records) == {sample.clip_id for sample in samples}
        for sample in samples:
            name = records[sample.clip_id].objects[0]
            assert all(word in sample.caption for word in name.split())
        used[split] = {record.objects[0] for record in records.values()}
        assert frames_of(source, samples[0]).shape == (8, 3, 48, 48)
    assert not used["train"] & used["test"]


def test_stored_records_give_the_masks_of_the_objects(tmp_path, sources):
    """Footage of one colour: what differs from it is the object, and the record says where that is."""
    plain = tmp_path / "plain.mp4"
    plain.write_bytes(encode_video(torch.full((20, 3, 80, 112), 128, dtype=torch.uint8)))
    build_moving_objects(
        tmp_path / "shards", {"train": [SourceVideo("plain", plain)]}, {"train": ShapeObjects()},
        num_clips={"train": 9}, size=64, progress=False,
    )  # fmt: skip
    objects = ShapeObjects()
    source, samples = samples_of(tmp_path / "shards", "train")
    records = read_motions(tmp_path / "shards", "train")
    overlaps = []
    for sample in samples:
        record = records[sample.clip_id]
        motion = batch_of([record])
        patch = objects[list(objects.names).index(record.objects[0])]
        drawn = object_masks(motion, object_patches([[patch]], motion))
        mask = drawn.reshape(-1, 8, 64, 64)[0].float() > 0.5
        seen = (frames_of(source, sample).float() - 128).abs().amax(dim=1) > 40
        overlaps.append(float((mask & seen).sum() / (mask | seen).sum()))
    # Colour is encoded at half the resolution: thin parts of small objects fade.
    assert min(overlaps) > 0.4
    assert sum(overlaps) / len(overlaps) > 0.6


def test_processes_do_not_matter_and_complete_splits_are_kept(tmp_path, sources, monkeypatch):
    build(tmp_path / "one", sources)
    build(tmp_path / "two", sources, num_workers=2)
    for split in ("train", "test"):
        (first, ours), (second, theirs) = (samples_of(tmp_path / name, split) for name in ("one", "two"))
        assert [sample.clip_id for sample in ours] == [sample.clip_id for sample in theirs]
        assert torch.equal(frames_of(first, ours[0]), frames_of(second, theirs[0]))
    monkeypatch.setattr("tubelets.benchmarks.moving_objects.encode_video", None)
    assert not build(tmp_path / "one", sources)["train"].written


def test_bad_input_is_refused(tmp_path, sources):
    with pytest.raises(ValueError, match="one split only"):
        build(tmp_path, {"train": sources["train"], "test": sources["train"]})
    with pytest.raises(ValueError, match="at least one"):
        build(tmp_path, {"train": sources["train"], "test": []})
    with pytest.raises(ValueError, match="even"):
        build(tmp_path, sources, size=33)
    with pytest.raises(ValueError, match="choose a longer video"):
        build(tmp_path, sources, num_frames=16)
    with pytest.raises(ValueError, match="swim"):
        sample_object_motion("swim", 8, 64, generator())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_cannot_be_read_is_skipped_counted_and_named(tmp_path, sources, workers):
    broken = SourceVideo("broken", tmp_path / "broken.mp4")
    broken.path.write_bytes(b"no video")
    with pytest.warns(UserWarning, match=r"1 of 2 source videos of 'train' cannot be read and are skipped: broken"):
        reports = build(
            tmp_path / "out", {**sources, "train": [*sources["train"], broken]}, num_clips={"train": 18},
            num_workers=workers,
        )  # fmt: skip
    assert (reports["train"].num_clips, len(reports["train"].bad_files)) == (9, 9)
    assert "broken.mp4" in reports["train"].bad_files[0].reason
    assert len(read_motions(tmp_path / "out", "train")) == 9
