"""The fine-tuning script on videos with captions: trained, tested, resumed, with a share of the data."""

import csv
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from finetuning import final_metrics, log_of, losses, run, words
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoProcessor, BertTokenizerFast

from tiny_models import LOCOMOTION, WORDS
from tubelets import (
    AutoModelForVideoTextRetrieval,
    LocoMotionConfig,
    LocoMotionForPreTraining,
    LocoMotionForVideoTextRetrieval,
    VideoTextDualEncoderConfig,
    VideoTextDualEncoderModel,
)
from tubelets.models.common.auto import inference_processor
from tubelets.models.common.video_text import PairScorer, embed_texts
from tubelets.models.heads.video_text.processing_video_text import VideoTextProcessor, frame_processor

CAPTIONS = ["a red bird jumps", "a blue cat falls", "A green dog rolls"]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *sorted({word for each in CAPTIONS for word in each.lower().split()}),
]
SIZES: dict[str, Any] = {
    "video_tower": {
        "model_type": "vit", "image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16,
    },
    "text_tower": {**WORDS, "vocab_size": len(VOCABULARY)}, "projection_dim": 8, "max_length": 8, "num_segments": 2,
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "recipe": None, "do_train": True, "do_eval": True, "num_train_epochs": 1, "warmup_epochs": 0, "use_cpu": True,
    "logging_steps": 1, "per_device_train_batch_size": 3, "layer_decay": 1, "dataloader_num_workers": 0,
}  # fmt: skip


def plain_video(colour: int, frames: int) -> bytes:
    """A red, green or blue video."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        image = np.zeros((24, 32, 3), np.uint8)
        image[..., colour] = 230
        for _ in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def write_data(folder: Path, train: int = 4, validation: int = 2) -> Path:
    """Videos whose colour tells the caption; many share one, and equal captions differ in case."""
    folder.mkdir(parents=True)
    with (folder / "videos.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption", "split"])
        for split, count in (("train", train), ("validation", validation)):
            for number, caption in enumerate(CAPTIONS):
                for index in range(count):
                    name = f"{split}-{number}-{index}.mp4"
                    (folder / name).write_bytes(plain_video(number, 6 + index))
                    table.writerow([name, caption if index % 2 else caption.lower(), split])
    return folder / "videos.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("captions") / "data")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder of random weights with its processor."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    config = VideoTextDualEncoderConfig(**SIZES)
    VideoTextDualEncoderModel(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(VOCABULARY)})
    VideoTextProcessor(frame_processor(config), tokenizer, max_length=8).save_pretrained(folder)
    return folder


def test_locomotion_is_tuned_and_reranked_by_its_fusion_encoder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = LocoMotionConfig(**LOCOMOTION)
    LocoMotionForPreTraining(config).save_pretrained(tmp_path / "start")
    inference_processor(config).save_pretrained(tmp_path / "start")
    given = PLAIN | {"max_steps": 2, "per_device_train_batch_size": 4, "rerank": 2, "task": "video-text-retrieval"}
    run(monkeypatch, words(tmp_path / "run", **given, model_name_or_path=tmp_path / "start", dataset_name=data))
    found = final_metrics(tmp_path / "run")
    assert (found["test_num_videos"], found["test_num_texts"]) == (6, 3)
    model = AutoModelForVideoTextRetrieval.from_pretrained(tmp_path / "run")
    assert isinstance(model, LocoMotionForVideoTextRetrieval)
    assert isinstance(model, PairScorer)


def test_it_learns_which_caption_belongs_to_which_video(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {
        "num_train_epochs": 24,
        "per_device_train_batch_size": 6,
        "learning_rate": 2e-2,
        "eval_strategy": "steps",
        "eval_steps": 24,
        "save_steps": 24,
    }
    given = words(tmp_path / "run", **PLAIN | often, model_name_or_path=start, dataset_name=data)
    run(monkeypatch, given)
    found = final_metrics(tmp_path / "run")
    assert (found["test_num_videos"], found["test_num_texts"]) == (6, 3)
    assert found["test_text_to_video_r1"] == found["test_video_to_text_r1"] == 1.0
    assert found["test_text_to_video_median_rank"] == 1
    assert [line["step"] for line in log_of(tmp_path / "run") if "eval_text_to_video_r1" in line] == [24, 48]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"retrieval.json", "retrieval_ranks.csv", "recall.png", "README.md", "tokenizer.json"}
    rows = list(csv.DictReader((tmp_path / "run" / "retrieval_ranks.csv").open()))
    assert len(rows) == 9
    assert {row["rank"] for row in rows} == {"1"}
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert card.data.pipeline_tag == "feature-extraction"
    assert card.data.eval_results[0].metric_name == "text-to-video R@1"
    assert "from tubelets import AutoModelForVideoTextRetrieval" in card.text
    # An interrupted run gives the losses of this one.
    (tmp_path / "again").mkdir()
    (tmp_path / "run" / "checkpoint-24").rename(tmp_path / "again" / "checkpoint-24")
    run(monkeypatch, words(tmp_path / "again", **PLAIN | often, model_name_or_path=start, dataset_name=data))
    assert losses_from(tmp_path / "again") == losses(tmp_path / "run")[24:]
    model, processor = (each.from_pretrained(tmp_path / "run") for each in (AutoModel, AutoProcessor))
    assert embed_texts(model, processor, CAPTIONS).shape == (3, 8)


def losses_from(output: Path) -> list[float]:
    return [line["loss"] for line in log_of(output) if "loss" in line and line["step"] > 24]


def test_a_checkpoint_is_tested_without_training(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = PLAIN | {"do_train": None, "dual_softmax": 0.05, "test_sampling": "segment_test", "test_clips": 2}
    run(monkeypatch, words(tmp_path / "run", **changes, model_name_or_path=start, dataset_name=data))
    found = final_metrics(tmp_path / "run")
    assert found["test_num_views"] == 2
    assert 0 <= found["test_mean_recall"] <= 1
    assert "dual softmax over all queries" in (tmp_path / "run" / "README.md").read_text()


def test_a_share_of_the_videos_keeps_a_quarter_of_the_steps(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = PLAIN | {"fraction": 0.25, "least_steps": 0.75, "num_train_epochs": 2, "learning_rate": 1e-4}
    run(monkeypatch, words(tmp_path / "run", **changes, model_name_or_path=start, dataset_name=data))
    # 3 of 12 videos in batches of 3, but 9 videos an epoch.
    assert len(losses(tmp_path / "run")) == 6
    arguments = (tmp_path / "run" / "run.yaml").read_text()
    assert "fraction: 0.25" in arguments


def test_data_without_captions_are_refused(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,x,validation\n")
    with pytest.raises(ValueError, match="has no captions; give it a column `caption`"):
        run(monkeypatch, words(tmp_path / "run", **PLAIN, model_name_or_path=start, dataset_name=tmp_path / "list.csv"))
