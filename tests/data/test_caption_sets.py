"""Miniature copies of published annotation files: what is read from them, and what is said if they are missing."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tubelets.cli.main import main
from tubelets.cli.parser import Verb
from tubelets.cli.shards import add_arguments
from tubelets.data.sources.caption_sets import CAPTION_SETS, read_caption_set
from tubelets.data.sources.opening import open_source
from videos import make_video

MSRVTT = {
    "videos": [{"video_id": f"video{number}", "split": "train"} for number in range(4)],
    "sentences": [
        {"sen_id": 0, "video_id": "video0", "caption": "a man sings"},
        {"sen_id": 1, "video_id": "video1", "caption": "a dog runs"},
        {"sen_id": 2, "video_id": "video0", "caption": "someone is singing"},
        {"sen_id": 3, "video_id": "video3", "caption": "a car"},
    ],
}
FILES: dict[str, dict[str, Any]] = {
    "ssv2_template": {
        "ssv2_ret_template_train.json": [{"video": ["1.webm", "2.webm"], "caption": "Pushing [something]"}],
        "ssv2_ret_template_val_small.json": [{"video": "3.webm", "caption": "Holding [something]"}],
    },
    "ssv2_label": {
        "something-something-v2-train.json": [
            {"id": "1", "label": "pushing a cup", "template": "Pushing [something]", "placeholders": ["a cup"]}
        ],
        "something-something-v2-validation.json": [
            {"id": "3", "label": "holding a pen", "template": "Holding [something]"}
        ],
    },
    "msrvtt": {
        "MSRVTT_data.json": MSRVTT,
        "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
        "MSRVTT_JSFUSION_test.csv": 'key,vid_key,video_id,sentence\nret0,msr2,video2,"a cat, asleep"\n',
    },
    "didemo": {
        f"{split}_data.json": [
            {"annotation_id": 1, "video": f"{split}@N00_1.avi", "description": "a boy waves. ", "times": [[0, 0]]},
            {"annotation_id": 2, "video": f"{split}@N00_1.avi", "description": "he sits down", "times": [[2, 3]]},
        ]
        for split in ("train", "val", "test")
    },
    "activitynet": {
        name: {video: {"duration": 9.5, "timestamps": [[0, 4], [4, 9]], "sentences": ["She jumps.", " She lands. "]}}
        for name, video in (("train.json", "v_a-1"), ("val_1.json", "v_b-2"))
    },
}
VIDEOS = {
    "ssv2_template": ["1.webm", "2.webm", "3.webm"], "ssv2_label": ["1.webm", "3.mp4"],
    "msrvtt": ["video0.mp4", "video1.mp4", "video2.mp4"],
    "didemo": ["train@N00_1.mp4", "val@N00_1.avi", "test@N00_1.mov"], "activitynet": ["v_a-1.mkv", "v_b-2.mp4"],
}  # fmt: skip
EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "ssv2_template": {
        "train": {"1.webm": "Pushing [something]", "2.webm": "Pushing [something]"},
        "validation": {"3.webm": "Holding [something]"},
    },
    "ssv2_label": {"train": {"1.webm": "pushing a cup"}, "validation": {"3.webm": "holding a pen"}},
    "msrvtt": {
        "train": {"video0": ("a man sings", "someone is singing"), "video1": "a dog runs"},
        "test": {"video2": "a cat, asleep"},
    },
    "didemo": {
        split: {f"{name}@N00_1.avi": "a boy waves. he sits down."}
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    },
    "activitynet": {"train": {"v_a-1": "She jumps. She lands."}, "test": {"v_b-2": "She jumps. She lands."}},
}


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """The annotation files and empty videos of a data set, the videos at some depth."""
    for file, content in FILES[name].items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    root = folder / "videos"
    (root / "part").mkdir(parents=True)
    for video in VIDEOS[name]:
        (root / "part" / video).write_bytes(b"")
    return folder, root


@pytest.mark.parametrize("name", FILES)
def test_captions_and_splits_are_those_of_the_files(name: str, tmp_path: Path) -> None:
    found = read_caption_set(name, *write(name, tmp_path))
    read = {
        split: {record.clip_id: record.captions or record.caption for record in part} for split, part in found.items()
    }
    assert read == EXPECTED[name]
    assert all(record.path.is_file() for part in found.values() for record in part)


def test_missing_videos_are_counted_and_missing_files_explained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, root = write("msrvtt", tmp_path)
    (root / "part" / "video1.mp4").unlink()
    with caplog.at_level(logging.WARNING, logger="tubelets.data"):
        found = read_caption_set("msrvtt", folder, root)
    assert [record.clip_id for record in found["train"]] == ["video0"]
    assert "1 of 2 videos of the split train are not below" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"none of the videos of MSR-VTT is below .*CLIP4Clip"):
        read_caption_set("msrvtt", folder, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"MSRVTT_JSFUSION_test\.csv.*get them first: .*CLIP4Clip"):
        read_caption_set("msrvtt", root, root)
    (folder / "MSRVTT_data.json").write_text('{"videos": []}')
    with pytest.raises(ValueError, match=r"is not such an annotation file \(KeyError\('sentences'\)\)"):
        read_caption_set("msrvtt", folder, root)


def test_shards_hold_all_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, root = write("msrvtt", tmp_path / "annotations")
    for video in VIDEOS["msrvtt"]:
        (root / "part" / video).write_bytes(make_video(4, 16, 16))
    words = [
        "shards",
        str(folder),
        "--dataset",
        "msrvtt",
        "--root",
        str(root),
        "--output_dir",
        str(tmp_path / "shards"),
    ]
    assert main([*words, "--no_progress", "--readers", "1"]) == 0
    assert "train: 2 clips" in capsys.readouterr().out
    train = open_source(tmp_path / "shards", split="train")
    assert {sample.clip_id: sample.annotations["captions"] for sample in train.iterate_shard(0)} == {
        "video0": ["a man sings", "someone is singing"], "video1": [],
    }  # fmt: skip
    test = next(open_source(tmp_path / "shards", split="test").iterate_shard(0))
    assert test.caption == "a cat, asleep"


def test_the_command_names_every_data_set() -> None:
    verb = Verb("shards", "doc", [])
    add_arguments(verb)
    assert verb.parse(["x", "--output_dir", "y", "--dataset", "didemo"]).dataset == "didemo"
    for name in CAPTION_SETS:
        assert verb.parse(["x", "--output_dir", "y", "--dataset", name]).dataset == name
