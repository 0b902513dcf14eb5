"""Shared parts of the classification tasks: sources, classes, loaders, scores and reports."""

import json
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

from tubelets.data.sources.source import Source
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.mixing import Mixing
from tubelets.objectives.classification import classification_loss
from tubelets.tasks.classification.labels import (
    address_of,
    check_same_classes,
    checkpoint_class_names,
    label_fields,
    label_numbers,
    open_part,
    resolve_class_names,
)
from tubelets.tasks.loading import ClipLoading
from tubelets.tasks.metrics import average_precision, confusion_matrix, per_class_accuracy
from tubelets.tasks.task import Metric, Part, Scores, TaskData
from tubelets.tasks.views import Merge, VideoScores, score_batches

METRICS = {
    "top_1": Metric("top-1 accuracy", "accuracy"),
    "top_5": Metric("top-5 accuracy", "top_5_accuracy"),
    "mean_class_accuracy": Metric("mean per-class accuracy", "mean_class_accuracy"),
    "mean_average_precision": Metric("mean average precision", "mean_average_precision"),
}


def soft_target_loss(config: PreTrainedConfig, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy, or binary cross entropy for several labels, of a batch with float targets `(B, classes)`.

    The models' own losses are not used: several treat every floating-point label as a multi-label one.
    """
    return classification_loss(output.logits, batch["labels"], config.problem_type)


@dataclass(frozen=True)
class ClassificationScores(Scores):
    """Merged scores of clips, and how they are reported.

    Attributes:
        clips: ids, scores and labels.
        class_names: names of the classes.
        num_skipped: clips that could not be read, over all processes.
    """

    clips: VideoScores
    class_names: Sequence[str]
    num_skipped: int = 0

    def metrics(self) -> dict[str, float]:
        """See `VideoScores.metrics`; and `skipped_videos`."""
        return {**self.clips.metrics(), "skipped_videos": float(self.num_skipped)}

    def save_report(self, folder: Path, title: str) -> None:
        """Write the accuracy (or average precision) of each class as JSON, and plot the confusion matrix."""
        scores, labels = self.clips.scores, self.clips.labels
        several = labels.ndim == 2
        values = (average_precision if several else per_class_accuracy)(scores, labels).tolist()
        # JSON does not support NaN, the metric of classes without clips.
        report = {name: None if value != value else value for name, value in zip(self.class_names, values, strict=True)}
        file = folder / f"per_class_{'average_precision' if several else 'accuracy'}.json"
        file.write_text(json.dumps(report, indent=2), encoding="utf-8")
        if not several:
            # Only this plot needs matplotlib, which is an optional dependency.
            from tubelets.visualization.confusion import save_confusion_matrix

            matrix = confusion_matrix(scores, labels)
            save_confusion_matrix(matrix, self.class_names, folder / "confusion_matrix.png", title)


class ClassificationData(ClipLoading, TaskData):
    """Labelled clips of one fine-tuning run; subclasses decode, augment and batch them.

    Args:
        data: the task's own arguments; `multi_label` is set if the labels of the data are lists.
        args: batch sizes, workers, seed, rank, and whether the run trains and tests.
        token: access token of a private data set.
        class_names: classes of a checkpoint whose head is kept, see `TaskData`; labels of the data are numbered by
            their names, and the data may lack some of them.

    Attributes:
        class_names: names in label order, of the model.
        multi_label: a clip can have any number of classes.

    Raises:
        FileNotFoundError: if a part of the data is not found.
        ValueError: if a part is missing, is empty or numbers its classes differently, if batches to be mixed have an
            odd number of clips, or if several labels of a clip are to be smoothed.
    """

    merge: Merge = "mean"  # of the views of a clip

    def __init__(
        self,
        data: Any,
        args: TrainingArguments,
        token: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.data, self.args, self._token, self._stored_names = data, args, token, class_names
        names: Sequence[str] | None = None
        self.train_source: Source | None = None
        if args.do_train:
            self.train_source, names = self._open("train", names)
        self.validation_source: Source | None = None
        if args.do_eval or args.eval_strategy != "no":
            self.validation_source, names = self._open("validation", names)
        # The final test is opened before the training, so that a missing split does not end a run of days.
        self._test_source = self._open_test(names) if args.do_eval else None
        labelled = self.train_source or self.validation_source
        if labelled is None or names is None:
            raise ValueError("nothing to do; give --do_train, --do_eval or both")
        self.class_names = names
        self.multi_label = data.multi_label = data.multi_label or labelled.multi_label
        if args.do_train:
            self._check_training()

    def _open(self, part: Part, names: Sequence[str] | None) -> tuple[Source, Sequence[str]]:
        """A part and the classes of the model, which the first part or the checkpoint names."""
        if self._stored_names is not None:
            source = open_part(self.data, part, token=self._token)
            return source, checkpoint_class_names(self.data, source, self._stored_names)
        source = open_part(self.data, part, names, self._token)
        names = resolve_class_names(self.data, source) if names is None else names
        check_same_classes(names, source, part)
        return source, names

    def _open_test(self, names: Sequence[str] | None) -> Source | None:
        """The test part; its split is noted in the arguments, since the card names it."""
        data, args = self.data, self.args
        tested, chosen_on = address_of(data, "test", self._token), address_of(data, "validation", self._token)
        if data.dataset_name is not None:
            data.test_split = tested[1]
        if tested != chosen_on:
            return self._open("test", names)[0]
        if args.do_train and args.load_best_model_at_end:
            warnings.warn(
                f"the checkpoint is chosen by its score on {tested[1] or 'the videos'} of {tested[0]}, which is also "
                "reported as the test; give a test split (test_split or test_dir) for a fair number",
                stacklevel=2,
            )
        return self.validation_source

    @property
    @abstractmethod
    def mixing(self) -> Mixing:
        """Mixup and cutmix of training batches."""

    @abstractmethod
    def test_loader(self, source: Source, final: bool) -> ClipLoader:
        """One pass over this process's share of a source; with all views in the final test, otherwise with one."""

    @abstractmethod
    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch, on its device."""

    def label_numbers(self, source: Source | None) -> tuple[int, ...] | None:
        """The model's number of each class of a part; None if they are the same."""
        if source is None or self._stored_names is None:
            return None
        return label_numbers(self.data, source, self.class_names)

    @property
    def config_fields(self) -> dict[str, Any]:
        """Names of the classes and the problem type."""
        return label_fields(self.class_names, self.multi_label)

    @property
    def primary_metric(self) -> str:
        """Top-1 accuracy, or mean average precision if clips can have several labels."""
        return "mean_average_precision" if self.multi_label else "top_1"

    def score(self, model: PreTrainedModel, part: Part) -> ClassificationScores:
        """Score the validation part with one view of each clip, or the test part with all of them."""
        final = part == "test"
        source = self._test_source or self._open_test(self.class_names) if final else self.validation_source
        if source is None:
            raise ValueError("no validation videos; give --do_eval or an eval_strategy")
        loader = self.test_loader(source, final)
        clips_per_forward = self.args.per_device_eval_batch_size
        clips = score_batches(model, loader, self.arguments, merge=self.merge, clips_per_forward=clips_per_forward)
        return ClassificationScores(clips, self.class_names, sum(gather_object([loader.num_skipped])))

    def _check_training(self) -> None:
        clips = self.args.per_device_train_batch_size * self.repeats
        if self.mixing.active and clips % 2:
            raise ValueError(
                f"mixing pairs the clips of a batch, and it has {clips}; choose an even per_device_train_batch_size, "
                "or turn mixing off (mixup=0, and cutmix=0 where frames are mixed)"
            )
        if self.multi_label and self.args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={self.args.label_smoothing_factor} does not fit several labels per clip "
                "(multi_label); set it to 0"
            )


def describe_views(data: Mapping[str, Any]) -> str:
    """The views of the final test, e.g. `5 clips x 3 crops`.

    An audio-visual classifier is trained with the arguments of audio classification and published as a video
    classifier, so both tasks describe the arguments of either.

    Args:
        data: data arguments of a run; those of audio classification have no `test_crops`.

    Example:
        >>> describe_views({"test_clips": 5, "test_crops": 3}), describe_views({"test_clips": 1})
        ('5 clips x 3 crops', 'one clip from the middle')
    """
    clips, crops = data["test_clips"], data.get("test_crops")
    if crops is not None:
        return f"{clips} clips x {crops} crops"
    return "one clip from the middle" if clips == 1 else f"{clips} clips"
