from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from finetuning import DEMO, final_metrics, make_class_folders, run, words
from huggingface_hub import ModelCard, RepoUrl

from tubelets import SigmaConfig
from tubelets.hub.cards import render_finetuning_card
from tubelets.objectives.classification import classification_loss
from tubelets.training.checkpointing import CheckpointError, find_checkpoint
from tubelets.training.finetuning_arguments import parse_finetuning_arguments, run_arguments


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for split in ("train", "validation"):
        make_class_folders(folder / split, per_class=2)
    return folder


def test_the_loss_of_hard_targets_is_the_usual_one() -> None:
    logits, labels = torch.randn(5, 7), torch.randint(7, (5,))
    expected = F.cross_entropy(logits, labels)
    torch.testing.assert_close(classification_loss(logits, F.one_hot(labels, 7).float()), expected)
    smoothed = F.one_hot(labels, 7) * 0.9 + 0.1 / 7
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(classification_loss(logits, smoothed), expected)


def test_the_loss_of_independent_classes() -> None:
    logits, targets = torch.randn(5, 7), torch.randint(2, (5, 7)).float()
    expected = F.binary_cross_entropy(logits.sigmoid(), targets)
    torch.testing.assert_close(classification_loss(logits, targets, "multi_label_classification"), expected)


def test_losses_are_float32_and_shapes_must_agree() -> None:
    assert classification_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.ones(2, 3) / 3).dtype == torch.float32
    with pytest.raises(ValueError, match=r"shape \(2, 3\), one value for each class, got \(2,\)"):
        classification_loss(torch.zeros(2, 3), torch.zeros(2))


def test_checkpoints_of_other_numbers_of_processes(tmp_path: Path) -> None:
    for step, processes in ((3, 2), (6, 1)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        for process in range(processes):
            (tmp_path / f"checkpoint-{step}" / f"loader_{process}.json").write_text("{}")
    assert find_checkpoint(tmp_path, num_processes=1) == tmp_path / "checkpoint-6"
    assert find_checkpoint(tmp_path, num_processes=2) == tmp_path / "checkpoint-3", "the newer one lacks a process"
    (tmp_path / "checkpoint-6" / "loader_1.json").write_text("{}")
    with pytest.raises(CheckpointError, match="written by more than 1 processes"):
        find_checkpoint(tmp_path, num_processes=1)
    assert find_checkpoint(tmp_path / "nowhere", num_processes=1) is None
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    assert find_checkpoint(tmp_path, "elsewhere") == Path("elsewhere")
    with pytest.raises(CheckpointError, match="resume=never"):
        find_checkpoint(tmp_path, "never")


def test_an_incomplete_checkpoint_that_is_asked_for_is_refused(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    with pytest.raises(CheckpointError, match=r"is incomplete: loader_0\.json is missing"):
        run(monkeypatch, words(tmp_path / "run", videos, resume_from_checkpoint=tmp_path / "checkpoint-4"))


def test_a_loss_that_is_not_finite_ends_the_run(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FloatingPointError, match="lower base_learning_rate"):
        run(monkeypatch, words(tmp_path, videos, base_learning_rate=1e38, warmup_epochs=0))


class RecordedHub:
    """Stands in for the client of the Hub and keeps what would be sent."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.uploads: list[dict[str, Any]] = []

    def create_repo(self, name: str, **kwargs: Any) -> RepoUrl:
        self.created.append(name)
        return RepoUrl(f"https://huggingface.co/{name}")

    def upload_folder(self, **kwargs: Any) -> None:
        folder = Path(kwargs["folder_path"])
        kwargs["card"] = (folder / "README.md").read_text(encoding="utf-8")
        kwargs["names"] = {path.name for path in folder.iterdir()}
        self.uploads.append(kwargs)


def test_the_last_push_has_the_measured_card(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = RecordedHub()
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    flags = {"push_to_hub": True, "hub_model_id": "someone/sigma-tiny", "hub_strategy": "end", "hub_token": "secret"}
    run(monkeypatch, words(tmp_path, videos, max_steps=1, save_strategy="no", **flags))
    assert hub.created == ["someone/sigma-tiny"]
    last = hub.uploads[-1]
    assert last["repo_id"] == "someone/sigma-tiny"
    assert {"model.safetensors", "config.json", "video_preprocessor_config.json", "run.yaml"} <= last["names"]
    assert "training_args.bin" not in last["names"]
    assert "secret" not in (tmp_path / "run.yaml").read_text()
    card = ModelCard(last["card"])
    result = card.data.eval_results[0]
    assert result.metric_value == pytest.approx(final_metrics(tmp_path)["test_top_1"], abs=1e-4)
    assert 'from_pretrained("someone/sigma-tiny")' in last["card"]


def test_a_card_without_a_test_claims_nothing(tmp_path: Path) -> None:
    _, *groups = parse_finetuning_arguments(words(tmp_path, tmp_path, DEMO))
    text = render_finetuning_card(
        "tiny", run_arguments(*groups), {"steps": 8}, {}, {"torch": "2"}, SigmaConfig(num_labels=3)
    )
    assert "No test has been run." in text
    assert ModelCard(text).data.eval_results is None
