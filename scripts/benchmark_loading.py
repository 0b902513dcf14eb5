"""Clips a second of the streaming loader against a plain map-style PyAV data set on the same videos, in one run.

Both sides cut the same kind of clip (dense, random start), crop and resize it, and stack batches; the map-style side
reads single files from disk, seeks to a key frame and decodes forward. Rounds alternate and the medians are compared.

Example:
    python scripts/benchmark_loading.py --num-videos 64 --workers 0 2 --json loading.json
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import torch
from torch.utils.data import DataLoader, Dataset

from tubelets.data.annotations import VideoRecord, read_records
from tubelets.data.decoding import encode_video
from tubelets.data.loader import ClipLoader
from tubelets.data.shards import build_shards
from tubelets.data.sources import open_source
from tubelets.data.streaming import ClipSpec, ClipStream
from tubelets.data.transforms import MultiScaleCrop


class PlainDataset(Dataset):
    """What one writes without this package: a list of files, a seek, and decoding forward."""

    def __init__(self, paths: list[Path], num_frames: int, stride: int, size: int) -> None:
        self.paths, self.num_frames, self.stride = paths, num_frames, stride
        self.crop = MultiScaleCrop(size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with av.open(str(self.paths[index])) as container:
            stream = container.streams.video[0]
            span = self.num_frames * self.stride
            start = int(torch.randint(max(stream.frames - span, 0) + 1, ()))
            first = int(start / stream.average_rate / stream.time_base)
            container.seek(first, stream=stream)
            frames: list[torch.Tensor] = []
            wanted = 0
            for frame in container.decode(stream):
                if frame.pts < first:
                    continue
                if wanted % self.stride == 0:
                    frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
                wanted += 1
                if len(frames) == self.num_frames:
                    break
        frames += frames[-1:] * (self.num_frames - len(frames))
        return self.crop(torch.stack(frames).permute(0, 3, 1, 2), torch.Generator().manual_seed(index))


def make_videos(folder: Path, arguments: argparse.Namespace) -> list[Path]:
    """Moving noise as MP4 files with the encoder's own key frames."""
    paths = []
    for index in range(arguments.num_videos):
        generator = torch.Generator().manual_seed(index)
        picture = torch.randint(256, (3, arguments.height // 8, arguments.width // 8), generator=generator).float()
        picture = torch.nn.functional.interpolate(picture[None], scale_factor=8, mode="bilinear")[0].to(torch.uint8)
        clip = torch.stack([picture.roll(3 * frame, dims=2) for frame in range(arguments.frames)])
        paths.append(folder / f"{index:04d}.mp4")
        paths[-1].write_bytes(encode_video(clip))
    return paths


def rate(batches: Callable[[], Iterable[Any]], num_clips: int) -> float:
    """Clips a second of one pass."""
    start = time.perf_counter()
    for _ in batches():
        pass
    return num_clips / (time.perf_counter() - start)


def measure(paths: list[Path], shards: Path, workers: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Median rates of both sides and their ratio."""
    plain = PlainDataset(paths, arguments.clip_frames, arguments.stride, arguments.size)
    plain_loader = DataLoader(plain, arguments.batch_size, shuffle=True, num_workers=workers)
    stream = ClipStream(
        open_source(str(shards)),
        ClipSpec(arguments.clip_frames, arguments.stride),
        MultiScaleCrop(arguments.size),
        batch_size=arguments.batch_size,
        backend=arguments.backend,
    )
    streaming = ClipLoader(stream, workers)
    rates: dict[str, list[float]] = {"plain": [], "streaming": []}
    for round_number in range(arguments.rounds + 1):
        for name, loader in (("plain", plain_loader), ("streaming", streaming)):
            measured = rate(lambda loader=loader: loader, len(paths))
            if round_number:  # the first round warms up
                rates[name].append(measured)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {**medians, "ratio": medians["streaming"] / medians["plain"]}


def main() -> None:
    """Measure what the command line asks for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="folder or list of videos; synthetic ones are made if it is not given")
    parser.add_argument("--num-videos", type=int, default=96)
    parser.add_argument("--frames", type=int, default=150, help="frames of a synthetic video")
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--clip-frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=("auto", "pyav", "torchcodec"), default="auto")
    parser.add_argument("--json", help="also write the numbers to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.input:
            paths = [record.path for record in read_records(arguments.input)]
        else:
            paths = make_videos(folder, arguments)
        records = [VideoRecord(path, None, None, str(index)) for index, path in enumerate(paths)]
        build_shards(records, folder / "shards", clips_per_shard=-(-len(paths) // 8))
        print(f"{'workers':>7} {'plain PyAV clips/s':>19} {'streaming clips/s':>18} {'ratio':>6}")
        results = {}
        # Loaders with workers come first: forking after this process has decoded videos itself is not safe.
        for workers in sorted(arguments.workers, reverse=True):
            found = results[workers] = measure(paths, folder / "shards", workers, arguments)
            print(f"{workers:7d} {found['plain']:19.1f} {found['streaming']:18.1f} {found['ratio']:6.2f}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
