"""Small fine-tuning runs on sounds in this process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning import RECIPES, words
from finetuning import run as run_script

from sounds import make_sounding_video, tone
from tubelets.data.modalities.audio import encode_audio

DEMO = RECIPES / "structured_noise_audio_tiny_finetune_demo.yaml"
PITCHES = {"high": 1800.0, "low": 200.0, "middle": 600.0}
RATE = 16000


def make_sound_folders(folder: Path, per_class: int) -> Path:
    """A folder with a folder of short sounds for each class, of different lengths; their pitch tells the class."""
    for name, pitch in PITCHES.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            sound = tone(0.3 + 0.1 * index, RATE, pitch * (1 + 0.02 * index))
            (folder / name / f"{index}.wav").write_bytes(encode_audio(sound, RATE))
    return folder


def make_video_folders(folder: Path, per_class: int) -> Path:
    """Videos with sound, whose pitch tells the class; the frames are the same."""
    for name, pitch in PITCHES.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            sound = tone(0.4, RATE, pitch * (1 + 0.02 * index))
            (folder / name / f"{index}.mp4").write_bytes(make_sounding_video(0.4, rate=RATE, sound=sound))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, output: Path, data: Path | None = None, **changes: Any) -> None:
    """Run the script on the demonstration recipe."""
    run_script(monkeypatch, words(output, data, changes.pop("recipe", DEMO), **changes))


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two models hold the same values."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)
