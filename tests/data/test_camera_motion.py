import pytest
import torch

from tubelets.benchmarks.camera_motion import (
    CAMERA_MOTIONS,
    SourceVideo,
    build_camera_motion,
    render_path,
    sample_camera_path,
)
from tubelets.data.modalities.video import BadVideoError, encode_video, open_video
from tubelets.data.sources.opening import open_source

HEIGHT, WIDTH = 160, 240


def paths(motion, count=50):
    return [sample_camera_path(motion, 8, HEIGHT, WIDTH, torch.Generator().manual_seed(seed)) for seed in range(count)]


def corners(path):
    """Columns and rows of the window's corners, (T, 4, 2)."""
    half = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    angle = torch.deg2rad(path.angles)
    turn = torch.stack((torch.stack((angle.cos(), -angle.sin()), -1), torch.stack((angle.sin(), angle.cos()), -1)), -2)
    return path.centers[:, None] + path.sides[:, None, None] * torch.einsum("tij,kj->tki", turn, half)


@pytest.mark.parametrize("motion", CAMERA_MOTIONS)
def test_windows_stay_inside_the_frame(motion):
    for path in paths(motion):
        found = corners(path)
        assert found.min() >= -1e-3
        assert found[..., 0].max() <= WIDTH + 1e-3
        assert found[..., 1].max() <= HEIGHT + 1e-3


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("pan left", 0, -1), ("pan right", 0, 1), ("tilt up", 1, -1), ("tilt down", 1, 1)]
)
def test_pans_and_tilts_move_along_one_axis_at_constant_speed(motion, axis, sign):
    for path in paths(motion):
        travel = sign * (path.centers[-1, axis] - path.centers[0, axis])
        assert 14 <= travel <= 32
        steps = path.centers[1:, axis] - path.centers[:-1, axis]
        torch.testing.assert_close(steps, steps[:1].expand(7), atol=1e-3, rtol=0)
        assert path.centers[:, 1 - axis].unique().numel() == 1
        assert path.sides.unique().tolist() == [112.0]
        assert path.angles.abs().max() == 0


def test_zooms_and_turns_have_the_stated_size():
    for path in paths("zoom in"):
        assert 1.25 <= path.sides[0] / path.sides[-1] <= 1.6001
    for path in paths("zoom out"):
        assert 1.25 <= path.sides[-1] / path.sides[0] <= 1.6001
    turns = [float(path.angles[-1] - path.angles[0]) for path in paths("rotate")]
    assert all(15 <= abs(turn) <= 35 for turn in turns)
    assert min(turns) < 0 < max(turns)
    assert all(path.centers.unique(dim=0).shape == (1, 2) for path in paths("still"))


def test_the_window_shows_what_is_there():
    """A ramp of brightness from left to right gets darker when the camera pans left, and stays when it tilts."""
    ramp = torch.arange(WIDTH).clamp(max=255).to(torch.uint8).expand(8, 3, HEIGHT, WIDTH).contiguous()
    for motion, sign in (("pan left", -1), ("pan right", 1), ("tilt up", 0), ("still", 0)):
        path = paths(motion, 1)[0]
        means = render_path(ramp, path, 32).float().mean(dim=(1, 2, 3))
        # Column x covers the pixels [x, x + 1), so the mean of a window is its centre minus a half.
        torch.testing.assert_close(means, path.centers[:, 0] - 0.5, atol=0.6, rtol=0)
        assert torch.sign((means[-1] - means[0]).round()) == sign


def test_a_turn_turns_the_picture():
    frames = torch.zeros(8, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    frames[:, :, :, : WIDTH // 2] = 200
    path = sample_camera_path("rotate", 8, HEIGHT, WIDTH, torch.Generator().manual_seed(0))
    path = type(path)(
        "rotate", torch.tensor([[WIDTH / 2, HEIGHT / 2]]).expand(8, 2), path.sides, torch.tensor([0.0, 90.0] * 4)
    )
    upright, turned = render_path(frames, path, 32)[:2].float()
    assert upright[:, :, :14].min() == 200
    assert upright[:, :, 18:].max() == 0
    # Turned by a quarter, the window's rows run along the video's columns.
    assert {turned[0, 2, 16].item(), turned[0, 29, 16].item()} == {0.0, 200.0}
    assert turned[0, 2].unique().numel() == 1


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    result = {}
    for number, (split, count) in enumerate((("train", 2), ("test", 1))):
        result[split] = []
        for index in range(count):
            generator = torch.Generator().manual_seed(10 * number + index)
            picture = torch.randint(0, 256, (1, 3, 10, 14), generator=generator, dtype=torch.uint8)
            clip = torch.nn.functional.interpolate(picture.float(), scale_factor=8, mode="bilinear").to(torch.uint8)
            path = folder / f"{split}{index}.mp4"
            path.write_bytes(encode_video(clip.expand(20, -1, -1, -1).contiguous()))
            result[split].append(SourceVideo(path.stem, path))
    return result


def build(folder, sources, **changes):
    options = {"num_clips": {"train": 32, "test": 8}, "num_frames": 4, "size": 32, "progress": False, **changes}
    return build_camera_motion(folder, sources, **options)


def test_shards_are_balanced_labelled_captioned_and_disjoint(tmp_path, sources):
    reports = build(tmp_path, sources)
    assert {split: report.num_clips for split, report in reports.items()} == {"train": 32, "test": 8}
    names = {}
    for split in ("train", "test"):
        source = open_source(tmp_path, split=split)
        samples = [sample for shard in range(source.num_shards) for sample in source.iterate_shard(shard)]
        labels = torch.tensor([sample.label for sample in samples])
        assert torch.bincount(labels).tolist() == [len(samples) // 8] * 8
        assert source.class_names == list(CAMERA_MOTIONS)
        assert all(sample.caption == list(CAMERA_MOTIONS.values())[sample.label] for sample in samples)
        names[split] = {sample.clip_id.split("-")[0] for sample in samples}
        with open_video(source.read_bytes(samples[0])) as video:
            assert (video.num_frames, *video.get_frames([0]).shape[2:]) == (4, 32, 32)
    assert names == {"train": {"train0", "train1"}, "test": {"test0"}}


def test_building_again_keeps_complete_splits_and_the_seed_decides(tmp_path, sources, monkeypatch):
    build(tmp_path / "a", sources)
    monkeypatch.setattr("tubelets.benchmarks.camera_motion.encode_video", None)
    again = build(tmp_path / "a", sources)
    assert not again["train"].written
    assert again["train"].num_clips == 32
    monkeypatch.undo()
    with pytest.raises(ValueError, match="another plan"):
        build(tmp_path / "a", sources, seed=1)
    build(tmp_path / "b", sources)

    def frames(folder):
        source = open_source(folder, split="test")
        with open_video(source.read_bytes(next(iter(source.iterate_shard(0))))) as video:
            return video.get_frames([0, 3])

    assert torch.equal(frames(tmp_path / "a"), frames(tmp_path / "b"))


def test_no_clip_crosses_a_cut(tmp_path):
    """Ten black frames, ten white ones: every clip is of one colour."""
    clip = torch.zeros(20, 3, 80, 112, dtype=torch.uint8)
    clip[10:] = 255
    path = tmp_path / "cut.mp4"
    path.write_bytes(encode_video(clip))
    build_camera_motion(
        tmp_path / "shards", {"train": [SourceVideo("cut", path)]}, num_clips={"train": 24}, num_frames=4, size=32,
        progress=False,
    )  # fmt: skip
    source = open_source(tmp_path / "shards")
    colours = set()
    for sample in source.iterate_shard(0):
        with open_video(source.read_bytes(sample)) as video:
            means = video.get_frames([0, 1, 2, 3]).float().mean(dim=(1, 2, 3))
        assert means.max() - means.min() < 10
        colours.add(bool(means[0] > 128))
    assert colours == {False, True}


def test_bad_input_is_refused(tmp_path, sources):
    with pytest.raises(ValueError, match="one split only"):
        build(tmp_path, {"train": sources["train"], "test": sources["train"][:1]})
    with pytest.raises(ValueError, match="at least one"):
        build(tmp_path, {"train": sources["train"], "test": []})
    with pytest.raises(ValueError, match="choose a longer video"):
        build(tmp_path, sources, num_frames=16)
    with pytest.raises(ValueError, match="motion must be one of"):
        sample_camera_path("fly", 8, HEIGHT, WIDTH, torch.Generator())
    with pytest.raises(ValueError, match="at least 160"):
        sample_camera_path("still", 8, 100, WIDTH, torch.Generator())


def with_an_unreadable_one(sources, folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    return {**sources, "train": [*sources["train"], SourceVideo("broken", folder / "broken.mp4")]}


def test_a_source_that_cannot_be_read_is_skipped_counted_and_named(tmp_path, sources):
    sources = with_an_unreadable_one(sources, tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 3 source videos of 'train' cannot be read and are skipped: broken"):
        report = build(tmp_path / "out", sources, num_clips={"train": 48, "test": 8})["train"]
    assert report.num_clips == 32
    assert len(report.bad_files) == 16
    assert all(bad.clip_id.startswith("broken-") and "broken.mp4" in bad.reason for bad in report.bad_files)
    again = build(tmp_path / "out", sources, num_clips={"train": 48, "test": 8})["train"]
    assert (again.num_clips, len(again.bad_files), again.written) == (32, 16, [])
    with pytest.raises(BadVideoError, match="none of the 1 source videos"):
        build(tmp_path / "none", {"test": sources["train"][2:]}, num_clips={"test": 8})
