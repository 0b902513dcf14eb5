"""Models of videos and texts on the command line: joined, measured, searched by sentences."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel, BertTokenizerFast

from tiny_models import RESNET, WORDS
from tubelets import ResNet3DConfig, ResNet3DModel
from tubelets.cli.main import main
from tubelets.evaluation.embedding import Embeddings
from tubelets.models.backbones.video_vit.processing_video_vit import video_processor
from videos import make_video

FILMS = (("a bird jumps", "jump"), ("a cat falls", "fall"), ("a bird", "jump"))
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bird", "cat", "jumps", "falls"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Checkpoints of a video backbone and of a text encoder."""
    folder = tmp_path_factory.mktemp("sides")
    torch.manual_seed(0)
    video = ResNet3DModel(ResNet3DConfig(**RESNET, image_size=32, num_frames=4))
    video.save_pretrained(folder / "video")
    video_processor(video.config).save_pretrained(folder / "video")  # type: ignore[arg-type]
    words = {name: value for name, value in WORDS.items() if name != "model_type"}
    BertModel(BertConfig(**words | {"vocab_size": len(VOCABULARY)})).save_pretrained(folder / "text")
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(VOCABULARY)})
    tokenizer.save_pretrained(folder / "text")
    return str(folder / "video"), str(folder / "text")


@pytest.fixture(scope="module")
def joined(sides: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("joined") / "both")
    assert main(["join", *sides, "--output_dir", folder, "--freeze_text", "--projection_dim", "8"]) == 0
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    with (folder / "films.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption", "label", "split"])
        for number, (caption, label) in enumerate(FILMS):
            (folder / f"{number}.mp4").write_bytes(make_video(24, 36, 48, seed=number))
            table.writerow([f"{number}.mp4", caption, label, "test"])
    return folder


def test_two_encoders_are_joined(sides: tuple[str, str], joined: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = AutoModel.from_pretrained(joined)
    original = ResNet3DModel.from_pretrained(sides[0])
    for name, value in original.state_dict().items():
        assert torch.equal(value, model.video_tower.encoder.state_dict()[name]), name
    assert model.config.freeze_text
    assert model.config.tokenizer is None  # a folder of this machine
    assert main(["join", *sides, "--output_dir", joined]) == 2
    assert "is not empty; choose a new folder" in capsys.readouterr().err
    assert main(["join", sides[0], "--output_dir", joined + "2"]) == 2
    assert "give VIDEO and TEXT" in capsys.readouterr().err


def test_retrieval_and_zero_shot_classification_are_measured(joined: str, films: Path, tmp_path: Path) -> None:
    words = ["evaluate", joined, str(films / "films.csv"), "--output_dir", str(tmp_path / "out"), "--num_workers", "0"]
    assert main([*words, "--sampling", "uniform", "--rerank", "0"]) == 0
    results = json.loads((tmp_path / "out" / "video_text.json").read_text())["results"]
    assert results["retrieval"]["num_videos"] == results["retrieval"]["num_texts"] == 3
    assert results["retrieval"]["text_to_video_r5"] == 1
    assert results["zero_shot"]["chance"] == 0.5
    assert results["zero_shot"]["num_videos"] == 3
    assert results["zero_shot"]["top_5"] == 1
    assert (tmp_path / "out" / "retrieval_ranks.csv").is_file()


def test_a_collection_is_searched_by_sentence_and_example(
    joined: str, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = str(tmp_path / "index.parquet"), tmp_path / "page.html"
    words = ["embed", joined, str(films / "films.csv"), file, "--windows", "2", "--strip_frames", "3"]
    assert main([*words, "--num_workers", "0"]) == 0
    assert pq.read_schema(file).names == ["clip_id", "window", "start", "end", "label", "caption", "features", "strip"]
    assert Embeddings.read(file).features.norm(dim=1).allclose(torch.ones(6))
    capsys.readouterr()
    assert main(["search", file, "a bird jumps", "--html", str(page), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert sorted(hit["clip_id"] for hit in hits) == ["0.mp4", "1.mp4", "2.mp4"]
    assert hits == sorted(hits, key=lambda hit: -hit["score"])
    text = page.read_text()
    assert "<h1>a bird jumps</h1>" in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert main(["search", file, str(films / "1.mp4"), "--json"]) == 0
    scores = {hit["clip_id"]: hit["score"] for hit in json.loads(capsys.readouterr().out)}
    assert scores["1.mp4"] > 0.9  # its window is not quite one of the collection
    (tmp_path / "lines.txt").write_text("a bird jumps\n\na cat falls\n")
    assert main(["search", file, "1.mp4", "--sentences", str(tmp_path / "lines.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(each["sentence"] for each in found) == ["a bird jumps", "a cat falls"]
    assert main(["search", file, "no.mp4", "--sentences", str(tmp_path / "lines.txt")]) == 2
    assert "neither a file nor a clip_id" in capsys.readouterr().err


def test_videos_are_added_to_a_collection(
    joined: str, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "index.parquet")
    lines = (films / "films.csv").read_text().splitlines()
    (films / "first.csv").write_text("\n".join(lines[:3]))
    words = ["--num_workers", "0", "--strip_frames", "2"]
    assert main(["embed", joined, str(films / "first.csv"), file, *words]) == 0
    first = pq.read_table(file).to_pylist()
    assert main(["embed", joined, str(films / "films.csv"), file, *words]) == 2
    assert "append to it" in capsys.readouterr().err
    for _ in range(2):  # the second time nothing is left to do
        assert main(["embed", joined, str(films / "films.csv"), file, *words, "--append"]) == 0
        rows = pq.read_table(file).to_pylist()
        assert rows[:2] == first
        assert [row["clip_id"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4"]
    other = ["embed", joined, str(films / "films.csv"), file, *words, "--append", "--windows", "2"]
    assert main(other) == 2
    assert "cannot be appended to: inputs" in capsys.readouterr().err
