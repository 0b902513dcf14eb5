"""The page on new methods runs from top to bottom: its method trains on shards and loads again."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.modality import Clip
from tubelets.data.modalities.registry import modality_named, unregister_modality
from tubelets.data.sources.annotations import read_records
from tubelets.models.common.auto import MODELS
from videos import make_video

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bring_your_own_method.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the blocks of the page define, run in order in a folder with shards."""
    folder = tmp_path_factory.mktemp("method")
    (folder / "videos").mkdir()
    for number in range(4):
        (folder / "videos" / f"{number}.mp4").write_bytes(make_video(20, 48, 64, seed=number))
    build_shards(read_records(folder / "videos"), folder / "shards", progress=False)
    defined: dict[str, Any] = {"__name__": "playback"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
            exec(compile(block, PAGE.name, "exec"), defined)
    yield defined
    MODELS.pop("playback")
    unregister_modality("pulse")


def test_the_method_trains(names: dict[str, Any]) -> None:
    assert len(names["losses"]) == 8
    assert all(loss > 0 for loss in names["losses"])
    assert all(parameter.isfinite().all() for parameter in names["model"].parameters())


def test_the_collator_reverses_the_clips_it_says(names: dict[str, Any]) -> None:
    clips = torch.randint(256, (6, 4, 3, 8, 8), dtype=torch.uint8)
    batch = names["PlaybackCollator"](names["config"])(
        [{"pixel_values": clip, "seed": i} for i, clip in enumerate(clips)]
    )
    assert batch["labels"].unique().tolist() == [0, 1]
    for clip, made, label in zip(clips, batch["pixel_values"], batch["labels"], strict=True):
        assert made.equal(clip.flip(0) if label else clip)


def test_the_method_loads_again_with_the_same_outputs(names: dict[str, Any]) -> None:
    clips, labels = torch.randint(256, (2, 8, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1])
    assert type(names["again"]) is names["PlaybackForPreTraining"]
    with torch.no_grad():
        before, after = names["model"](clips, labels), names["again"](clips, labels)
    assert before.logits.equal(after.logits)


def test_the_configuration_refuses_what_the_page_says(names: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"reverse_probability must lie in \(0, 1\), got 1.0"):
        names["PlaybackConfig"](reverse_probability=1.0)
    with pytest.raises(TypeError, match="must define the property `input_specs`"):
        type("Undeclared", (names["RegisteredConfig"], names["PreTrainedConfig"]), {})


def test_a_classifier_fits_on_the_backbone(names: dict[str, Any]) -> None:
    assert names["scores"].logits.shape == (2, 3)
    trained = {name.partition(".")[0] for name, value in names["classifier"].named_parameters() if value.requires_grad}
    assert "backbone" not in trained
    assert "classifier" in trained


def test_the_modality_is_cut_to_the_frames_of_the_clip(names: dict[str, Any]) -> None:
    file = io.BytesIO()
    np.save(file, np.arange(100))
    with modality_named("pulse").open(file.getvalue(), "pulse.npy") as medium:
        clip = Clip(torch.Generator(), (0, 10, 20, 30), num_frames=50)
        (values,) = medium.read(names["PulseSpec"](4), [clip])
    assert values.tolist() == [1, 21, 41, 61]
