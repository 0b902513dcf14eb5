"""Shards of tiny videos for the tests of streaming and loading."""

import functools
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Value, Video

from videos import make_video

CLASS_NAMES = ["jump", "run", "walk"]
NUM_FRAMES = 10


@functools.cache
def video_bytes(kind: int) -> bytes:
    return make_video(NUM_FRAMES, 16, 24, seed=kind)


def clip_rows(count: int, replaced: Mapping[int, bytes] | None = None) -> list[dict[str, Any]]:
    """Rows clip-000 to clip-<count - 1>; `replaced` puts other bytes (with their own checksum) into some of them."""
    rows = []
    for number in range(count):
        data = (replaced or {}).get(number, video_bytes(number % 5))
        rows.append(
            {
                "video": {"bytes": data, "path": f"{number}.mp4"},
                "label": number % 3,
                "clip_id": f"clip-{number:03d}",
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    return rows


def write_parquet(folder: Path, rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Path:
    """Write consecutive rows as shards of the given sizes, with nothing but `datasets`."""
    assert sum(sizes) == len(rows)
    columns: dict[str, Any] = {"video": Video(), "label": ClassLabel(names=CLASS_NAMES)}
    columns |= {"clip_id": Value("string"), "sha256": Value("string")}
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for index, size in enumerate(sizes):
        shard = Dataset.from_list(list(rows[start : start + size]), features=Features(columns))
        shard.to_parquet(folder / f"train-{index:05d}-of-{len(sizes):05d}.parquet", batch_size=4)
        start += size
    return folder


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Write a WebDataset shard by hand."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
