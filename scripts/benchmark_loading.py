"""Compare the clip loader over Parquet shards with plain PyAV over the same video files on disk.

The baseline is the usual hand-written code: a map-style Dataset that opens a file, seeks to the key frame before
the clip and decodes forward to its last frame, in a shuffled DataLoader. Both sides decode the same frames of the same
encoded bytes and apply the same crop. Rounds alternate, so that load on the machine affects both equally. The time of
all cores is given beside the clock's, because the baseline leaves FFmpeg's own threads on, which take more than a core.

With --clips-per-video N, our side reads N clips each time it opens a video, and the baseline opens it N times.

Example:
  python scripts/benchmark_loading.py --num-videos 32 --rounds 3 --json loading.json
  python scripts/benchmark_loading.py --clips-per-video 4 --workers 0
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.video import available_backends
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.spatial import MultiScaleCrop


class PlainClips(Dataset):
    """Baseline: clips decoded with PyAV directly from video files."""

    def __init__(self, files: dict[str, Path], clips: ClipSpec, crop: MultiScaleCrop, epoch: int) -> None:
        self.files, self.clips, self.crop, self.epoch = list(files.items()), clips, crop, epoch

    def __len__(self) -> int:
        return len(self.files) * self.clips.clips_per_video

    def __getitem__(self, index: int) -> Tensor:
        video, clip_index = divmod(index, self.clips.clips_per_video)
        clip_id, path = self.files[video]
        generator = torch.Generator().manual_seed(stable_seed(0, self.epoch, clip_id, clip_index))
        with av.open(str(path), "r") as container:
            stream = container.streams.video[0]
            wanted = self.clips.indices(stream.frames, clip_index, generator)
            assert stream.average_rate is not None
            assert stream.time_base is not None
            step = 1 / (stream.average_rate * stream.time_base)
            container.seek(int((stream.start_time or 0) + wanted[0] * step), stream=stream, backward=True)
            frames: dict[int, np.ndarray] = {}
            for frame in container.decode(stream):
                assert frame.pts is not None
                number = round((frame.pts - (stream.start_time or 0)) / step)
                if number in wanted:
                    frames[number] = frame.to_ndarray(format="rgb24")
                if number >= wanted[-1]:
                    break
        clip = torch.from_numpy(np.stack([frames[number] for number in wanted])).permute(0, 3, 1, 2)
        return self.crop(clip, generator)


def write_videos(folder: Path, count: int, num_frames: int, height: int, width: int) -> None:
    """Encode smooth textures that drift and flicker; H.264 with the encoder's own key frames."""
    for number in range(count):
        generator = np.random.default_rng(number)
        coarse = generator.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
        scene = np.kron(coarse, np.ones((16, 16, 1), np.uint8))[:height, :width]
        with av.open(str(folder / f"{number:04d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for step in range(num_frames):
                noise = generator.integers(0, 16, scene.shape, np.uint8)
                image = np.roll(scene, (step, 2 * step), (0, 1)) // 2 + noise
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))


def time_pass(batches: Iterable[Any], expected: int) -> tuple[float, float]:
    """Time one full pass, including worker start-up, and check that no clip is missing.

    Returns:
        Seconds by the clock, and of all cores, workers included, for each clip.
    """
    # Decoders that an earlier pass left in reference cycles must not be inherited by forked workers.
    gc.collect()
    start, before = time.perf_counter(), os.times()
    count = sum(len(batch["pixel_values"] if isinstance(batch, dict) else batch) for batch in batches)
    seconds, after = time.perf_counter() - start, os.times()
    if count != expected:
        raise RuntimeError(
            f"a pass returned {count} clips instead of {expected}; check the input for unreadable videos"
        )
    # User and system time of this process and of the workers that have ended.
    return seconds / count, (sum(after[:4]) - sum(before[:4])) / count


def measure(options: argparse.Namespace, videos: Path, shards: Path) -> list[dict[str, Any]]:
    """Run all rounds; one result per number of workers."""
    records = read_records(videos)
    build_shards(records, shards, clips_per_shard=max(1, len(records) // 8), progress=False)
    source = open_source(shards)
    files = {record.clip_id: record.path for record in records}
    clips = ClipSpec(options.num_frames, options.stride, options.clips_per_video)
    crop = MultiScaleCrop(options.size)
    times: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for epoch in range(options.rounds):
        for workers in options.workers:
            stream = ClipStream(
                source, clips, crop, batch_size=options.batch_size, epoch=epoch, backend=options.backend
            )
            plain = DataLoader(
                PlainClips(files, clips, crop, epoch),
                options.batch_size,
                shuffle=True,
                num_workers=workers,
                generator=torch.Generator().manual_seed(epoch),
            )
            sides: list[tuple[str, Iterable[Any]]] = [("tubelets", ClipLoader(stream, workers)), ("plain", plain)]
            for name, loader in sides if epoch % 2 == 0 else sides[::-1]:
                found = time_pass(loader, len(files) * options.clips_per_video)
                times.setdefault((workers, name), []).append(found)
    return [summarise(workers, times[workers, "tubelets"], times[workers, "plain"]) for workers in options.workers]


def summarise(workers: int, ours: list[tuple[float, float]], plain: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians over the rounds, and the spread of the ratios of speed; above 1 we are faster."""
    result: dict[str, Any] = {"workers": workers}
    for place, clock in enumerate(("", "core_")):
        mine, other = [pair[place] for pair in ours], [pair[place] for pair in plain]
        ratios = [second / first for first, second in zip(mine, other, strict=True)]
        result |= {
            f"tubelets_clips_per_{clock}second": 1 / statistics.median(mine),
            f"plain_clips_per_{clock}second": 1 / statistics.median(other),
            f"{clock}ratio": statistics.median(ratios),
            f"{clock}ratio_range": [min(ratios), max(ratios)],
        }
    return result


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input", type=Path, help="folder of videos with constant frame rate (default: synthetic videos)"
    )
    parser.add_argument("--num-videos", type=int, default=48, help="synthetic videos (default: 48)")
    parser.add_argument("--video-frames", type=int, default=240, help="frames per synthetic video (default: 240)")
    parser.add_argument("--video-size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip (default: 16)")
    parser.add_argument("--stride", type=int, default=4, help="frame stride of a clip (default: 4)")
    parser.add_argument("--clips-per-video", type=int, default=1, help="clips for each opening of a video (default: 1)")
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels (default: 224)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="worker processes (default: 0 2)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each loader (default: 3)")
    parser.add_argument("--backend", default="auto", choices=["auto", "pyav", "torchcodec"], help="our decoder")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        videos = options.input or Path(temporary, "videos")
        if options.input is None:
            videos.mkdir()
            write_videos(videos, options.num_videos, options.video_frames, *options.video_size)
        results = measure(options, videos, Path(temporary, "shards"))
    print("decoders:", ", ".join(f"{name} {state}" for name, state in available_backends().items()))
    print(f"{'':>8}{'clips a second':^48}{'clips a second of a core':^48}")
    print(f"{'workers':>8}" + f"{'tubelets':>12}{'plain':>10}{'ratio':>8}  {'range':<16}" * 2)
    for row in results:
        line = f"{row['workers']:>8}"
        for clock in ("", "core_"):
            low, high = row[f"{clock}ratio_range"]
            line += f"{row[f'tubelets_clips_per_{clock}second']:>12.1f}{row[f'plain_clips_per_{clock}second']:>10.1f}"
            line += f"{row[f'{clock}ratio']:>8.2f}  {f'{low:.2f}-{high:.2f}':<16}"
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps({"backend": options.backend, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
