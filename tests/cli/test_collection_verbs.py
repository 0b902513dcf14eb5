"""The verbs around collections and authors' checkpoints, as a user types them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tiny_models import tiny_config
from tubelets.cli.main import main
from tubelets.hub.author_cards import author_checkpoints
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEModel
from tubelets.models.backbones.video_vit.processing_video_vit import video_processor
from videos import make_video


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    torch.manual_seed(0)
    model = TubeletsVideoMAEModel(tiny_config("tubelets_videomae"))
    model.save_pretrained(tmp_path / "model")
    video_processor(model.config).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for number in range(3):
        folder = tmp_path / "videos" / f"kind{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").write_bytes(make_video(30, 32, 32, seed=number))
    return tmp_path / "videos"


def test_embed_and_search(checkpoint: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "features.parquet")
    words = ["embed", checkpoint, str(videos), file, "--windows", "2", "--num-workers", "0"]
    assert main(words) == 0
    rows = pq.read_table(file).to_pylist()
    assert [(row["clip_id"], row["window"], row["label"]) for row in rows] == [
        (f"kind{number % 2}/{number}.mp4", window, f"kind{number % 2}") for number in (0, 2, 1) for window in range(2)
    ]
    assert main(words) == 0  # nothing is left to do
    capsys.readouterr()
    query = videos / "kind1" / "1.mp4"
    assert main(["search", file, str(query), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert hits[0]["clip_id"] == "kind1/1.mp4"
    assert len(hits) == 3
    assert hits[0]["score"] > 0.98  # its windows are not quite those of the collection
    assert main(["search", file, "kind1/1.mp4", "--k", "1"]) == 0
    line = capsys.readouterr().out
    assert "kind0/" in line
    assert " s" in line
    assert main(["search", file, "nothing.mp4"]) == 2
    assert "nothing.mp4 is neither a file nor a clip_id" in capsys.readouterr().err


def test_another_model_is_not_searched_with(
    checkpoint: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "features.parquet")
    assert main(["embed", checkpoint, str(videos), file, "--num_workers", "0", "--precision", "fp32"]) == 0
    torch.manual_seed(1)
    TubeletsVideoMAEModel(tiny_config("tubelets_videomae")).save_pretrained(checkpoint)
    assert main(["search", file, str(videos / "kind1" / "1.mp4")]) == 2
    assert "is not the model that" in capsys.readouterr().err


def test_list_shows_every_checkpoint_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}\n" in text for name in author_checkpoints())
    assert text.endswith("Numbers are the authors'.\n")
    assert main(["list", "smile", "ssv2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [
        "smile-vit-base-k400-600-finetuned-ssv2", "smile-vit-base-k400-1200-finetuned-ssv2",
    ]  # fmt: skip
    assert rows[0]["published"] == {"Something-Something V2, top-1": 72.1}
    assert rows[0]["download"].startswith("hf://fmthoker/SMILE/")
    assert main(["list", "nothing"]) == 2
    assert "no checkpoint has 'nothing' in its name" in capsys.readouterr().err


def test_convert_says_what_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "weights.pth"
    page.write_text("<html></html>")
    assert main(["convert", str(page), "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tubelets convert: ")
    assert error.count("\n") == 1
    assert "is a web page, not weights" in error
