"""Evaluation of frozen features during pretraining."""

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from tubelets.data.sources.opening import open_source
from tubelets.evaluation.features import FeatureSet, extract_features
from tubelets.evaluation.frozen import effective_rank
from tubelets.evaluation.inputs import processor_inputs
from tubelets.evaluation.neighbours import weighted_knn
from tubelets.evaluation.probes import linear_probe
from tubelets.models.common.auto import inference_processor
from tubelets.tasks.metrics import top_k_accuracy
from tubelets.training.recipe import EvaluationSection


class OnlineEvaluation:
    """Evaluates the backbone of a model during training, without random draws, so that training is unaffected.

    Args:
        section: which data, how often, and which metrics; its `path` is set.
        config: the model's configuration.
        precision: type of the forward pass.

    Raises:
        FileNotFoundError: if the shards are not found.
        ValueError: if a split does not exist, or the model is audio-visual.
    """

    def __init__(self, section: EvaluationSection, config: PreTrainedConfig, precision: torch.dtype) -> None:
        processor = inference_processor(config)
        self._section, self._precision = section, precision
        self._inputs = processor_inputs(processor, config, sampling=section.sampling, stride=section.stride)
        path = str(section.path)
        self._train = open_source(path, split=section.train_split)
        # Labels that are text get the numbers that they have in training.
        self._test = open_source(path, split=section.test_split, class_names=self._train.class_names)

    def is_due(self, step: int, total_steps: int) -> bool:
        """Whether to evaluate after this step: every `every_steps`, and after the last."""
        return step % self._section.every_steps == 0 or step == total_steps

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """Evaluate a model.

        Args:
            model: any model with a backbone (`base_model`).

        Returns:
            `knn_top_1`, `effective_rank` (of test features) and, if requested, `probe_top_1`.
        """
        train, test = self._features(model, "train"), self._features(model, "test")
        scores = weighted_knn(test.features, train.features, train.labels, train.num_classes, self._section.k)
        found = {"knn_top_1": top_k_accuracy(scores, test.labels), "effective_rank": effective_rank(test.features)}
        if self._section.linear_probe:
            # A fixed penalty: cross-validating it each time costs more than the comparison gains.
            found["probe_top_1"] = top_k_accuracy(linear_probe(train, test, penalty=0.01), test.labels)
        return found

    def _features(self, model: PreTrainedModel, split: str) -> FeatureSet:
        return extract_features(
            model,
            self._train if split == "train" else self._test,
            self._inputs,
            batch_size=self._section.batch_size,
            num_workers=self._section.num_workers,
            precision=self._precision,
            progress=False,
        )
