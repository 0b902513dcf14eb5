"""Samples with several media whose content tells the time, for tests of streams over all of them."""

import csv
import io
from pathlib import Path

import numpy as np
import torch

from tubelets.data.modalities.audio import encode_audio
from tubelets.data.modalities.specs import InputSpec, SkeletonSpec, VideoSpec, WaveformSpec
from tubelets.data.modalities.video import encode_video

NUM_FRAMES, FPS, RATE = 40, 20, 8000
CROP_SIZE = (16, 16)
SPECS: dict[str, InputSpec] = {
    "pixel_values": VideoSpec(4, (16, 16)),
    "flow_values": VideoSpec(4, (16, 16), num_channels=2, media="flow"),
    "depth_values": VideoSpec(4, (16, 16), num_channels=1, media="depth"),
    "waveform": WaveformSpec(RATE, 0.25),
    "skeletons": SkeletonSpec("three-joints", 4, num_joints=3, num_bodies=2),
}


def clock_video(height: int = 32, width: int = 48) -> bytes:
    """A video whose frame t has the grey level 20 + 5t."""
    grey = (20 + 5 * torch.arange(NUM_FRAMES)).to(torch.uint8)
    return encode_video(grey[:, None, None, None].expand(-1, 3, height, width).contiguous(), fps=FPS, crf=0)


def pattern_video(height: int = 32, width: int = 48) -> bytes:
    """A video that looks different at every place."""
    image = torch.rand(3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    large = (255 * image).to(torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return encode_video(large.expand(NUM_FRAMES, -1, -1, -1).contiguous(), fps=FPS, crf=0)


def clock_sound() -> bytes:
    """A sound whose value at time t is t / 4, for two seconds."""
    return encode_audio(torch.arange(2 * RATE) / (4 * RATE), RATE)


def clock_skeleton(suffix: str = "npy") -> bytes:
    """One body whose coordinates are the number of the frame."""
    joints = np.arange(NUM_FRAMES, dtype=np.float32)[None, :, None, None].repeat(3, 2).repeat(3, 3)
    if suffix == "safetensors":
        from safetensors.numpy import save

        return save({"skeleton": np.ascontiguousarray(joints)})
    file = io.BytesIO()
    if suffix == "npz":
        np.savez(file, skeleton=joints, names=np.arange(3))
    else:
        np.save(file, joints)
    return file.getvalue()


def write_samples(folder: Path, count: int, video: bytes | None = None) -> Path:
    """Write `count` samples with five media and a csv file that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    video = video or clock_video()
    contents = {"video": video, "audio": clock_sound(), "flow": video, "depth": video, "skeleton": clock_skeleton()}
    suffixes = {"video": "mp4", "audio": "wav", "flow": "mp4", "depth": "mp4", "skeleton": "npy"}
    with (folder / "samples.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*contents, "label", "caption", "id"])
        for number in range(count):
            names = [f"{number}_{medium}.{suffix}" for medium, suffix in suffixes.items()]
            for name, content in zip(names, contents.values(), strict=True):
                (folder / name).write_bytes(content)
            table.writerow([*names, "ab"[number % 2], f"sample {number}", f"clip-{number}"])
    return folder / "samples.csv"
