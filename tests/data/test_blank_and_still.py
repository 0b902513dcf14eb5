"""Clips without natural video: blank sources, folders and data sets of still images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.video import open_video
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.blank import BlankSource
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.transforms.spatial import MultiScaleCrop


def picture(seed: int) -> Image.Image:
    """A smooth picture: formats that lose detail lose little of it."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)


def encoded(seed: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_an_image_is_a_video_of_one_frame(kind: str) -> None:
    data = encoded(0, kind)
    with open_video(data) as reader:
        frame = reader.get_frames([0])[0]
        assert (reader.num_frames, reader.height, reader.width) == (1, 48, 64)
    expected = torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)
    # Pillow smooths the colours of lossy formats between pixels, FFmpeg repeats them.
    assert float((frame.float() - expected.float()).abs().mean()) < (8 if kind in ("JPEG", "WEBP") else 0.5)


def test_a_folder_of_images_becomes_shards_of_still_clips(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "images" / "street").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "street" / f"{number}.png").write_bytes(encoded(number, "PNG"))
    records = read_records(tmp_path / "images")
    assert [record.label for record in records] == ["street"] * 3
    report = build_shards(records, tmp_path / "shards", class_names=["street"], progress=False)
    assert (report.num_clips, report.bad_files) == (3, [])
    items = list(ClipStream(open_source(tmp_path / "shards"), ClipSpec(4, 2), MultiScaleCrop(32, (1.0,))))
    assert len(items) == 3
    for item in items:
        assert item["pixel_values"].shape == (4, 3, 32, 32)
        assert torch.equal(item["pixel_values"], item["pixel_values"][:1].expand(4, -1, -1, -1))


def test_images_beside_videos_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "a.jpg").write_bytes(b"thumbnail")
    assert [record.path.name for record in read_records(tmp_path)] == ["a.mp4"]


def test_a_data_set_of_images_is_a_source(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": encoded(number, "PNG"), "path": None}, "label": number % 2} for number in range(4)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["in", "out"])})
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    source = open_source(tmp_path)
    assert source.class_names == ["in", "out"]
    items = list(ClipStream(source, ClipSpec(1, 1), MultiScaleCrop(32, (1.0,)), shuffle_window=0))
    assert [item["label"] for item in items] == [0, 1, 0, 1]
    assert not torch.equal(items[0]["pixel_values"], items[1]["pixel_values"])


def test_blank_clips_are_black_and_differ_in_their_seeds() -> None:
    source = open_source("blank://5")
    assert isinstance(source, BlankSource)
    items = list(ClipStream(source, ClipSpec(4, 2), MultiScaleCrop(32, (1.0,)), shuffle_window=2))
    assert sorted(item["clip_id"] for item in items) == list("01234")
    assert len({item["seed"] for item in items}) == 5
    assert not any(bool(item["pixel_values"].any()) for item in items)


@pytest.mark.parametrize("address", ["blank://", "blank://0", "blank://many", "blank://-3", "blank://5/x"])
def test_other_blank_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"blank://N.*blank://80000"):
        open_source(address)


def test_a_blank_source_has_one_shard() -> None:
    with pytest.raises(IndexError, match="shard 1"):
        next(BlankSource(2).iterate_shard(1))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        BlankSource(0)
