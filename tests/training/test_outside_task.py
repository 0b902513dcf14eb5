"""A task of another package, with its own head, targets, loss and metrics, runs through the script unchanged."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning import final_metrics, losses, make_class_folders, run, words
from torch import Tensor
from transformers import AutoModelForVideoClassification, PreTrainedModel

from tubelets.tasks.classification.arguments import VideoDataArguments
from tubelets.tasks.classification.data import describe_views
from tubelets.tasks.classification.video import VideoData, video_processor
from tubelets.tasks.registry import register_task, unregister_task
from tubelets.tasks.task import Metric, Part, Scores, Task


@dataclass(frozen=True)
class Errors(Scores):
    """Distances between the numbers that a model gives to clips and the true ones."""

    values: Tensor

    def metrics(self) -> dict[str, float]:
        return {"mean_absolute_error": float(self.values.mean()), "num_videos": float(len(self.values))}

    def save_report(self, folder: Path, title: str) -> None:
        (folder / "errors.json").write_text(json.dumps({title: self.values.tolist()}))


class NumberData(VideoData):
    """Videos whose class number is predicted by a single output."""

    config_fields = {"id2label": {0: "number"}, "label2id": {"number": 0}, "problem_type": "regression"}
    primary_metric = "mean_absolute_error"

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return {**self.arguments(batch), "numbers": batch["labels"].float()}

    @torch.no_grad()
    def score(self, model: PreTrainedModel, part: Part) -> Errors:  # type: ignore[override]
        model.eval()
        errors = [
            (model(**self.arguments(batch)).logits[:, 0] - batch["labels"]).abs()
            for batch in self.test_loader(self.validation_source, final=False)
        ]
        model.train()
        return Errors(torch.cat(errors))


@pytest.fixture
def task() -> Iterator[Task]:
    yield register_task(
        Task(
            name="video-regression",
            auto_class="AutoModelForVideoClassification",
            primary_metric="mean_absolute_error",
            arguments=VideoDataArguments,
            data=NumberData,
            processor=video_processor,
            loss=lambda config, output, batch: (output.logits[:, 0] - batch["numbers"]).square().mean(),
            protocol=describe_views,
            metrics={"mean_absolute_error": Metric("mean absolute error", "mae")},
            targets=("numbers",),
            greater_is_better=False,
        )
    )
    unregister_task("video-regression")


def test_a_task_from_outside_runs(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "validation"):
        make_class_folders(tmp_path / split, per_class=2)
    often: dict[str, Any] = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    # transformers' default of the best model stands for the task's primary metric.
    often["metric_for_best_model"] = "loss"
    changes = {"task": task.name, "load_best_model_at_end": True, "mixup": 0, "cutmix": 0, "base_learning_rate": 1e-9}
    run(monkeypatch, words(tmp_path / "run", tmp_path, **often, **changes))
    # Without learning, the first loss is near that of predicting 0 for the classes 0, 1 and 2.
    assert losses(tmp_path / "run")[0] == pytest.approx(5 / 3, abs=1.5)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    found = [line["eval_mean_absolute_error"] for line in state["log_history"] if "eval_runtime" in line]
    assert state["best_metric"] == min(found)
    assert final_metrics(tmp_path / "run")["test_num_videos"] == 6
    assert len(json.loads((tmp_path / "run" / "errors.json").read_text())["run"]) == 6
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "run")
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
