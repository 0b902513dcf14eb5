"""Class scores of recordings of skeletons, from files or arrays: what a pipeline is for other media."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tubelets.data.build.skeleton_sets import recording_bytes
from tubelets.data.modalities.skeleton_files import read_recording
from tubelets.evaluation.devices import evaluation_device
from tubelets.models.common.auto_classes import AutoModelForSkeletonClassification
from tubelets.models.common.safe_loading import load_model, load_processor
from tubelets.skeletons import convert_layout


def classify_skeletons(
    recordings: Any,
    model: str | Path | PreTrainedModel,
    processor: Any = None,
    *,
    layout: str | None = None,
    top_k: int = 5,
    batch_size: int = 64,
) -> list[list[dict[str, Any]]]:
    """Classify recordings of skeletons.

    Args:
        recordings: one recording or a list of them: paths of files of any format of
            `tubelets.data.modalities.skeleton_files.read_recording`, or a folder with a file for each frame; or arrays
            `(bodies, frames, joints, coordinates)`.
        model: folder or Hub id of a classifier, or the classifier itself.
        processor: its processor; None loads the one of the folder, and is not possible for a model given itself.
        layout: name of the layout of arrays and of files that do not state it; None is the model's.
        top_k: classes in each answer.
        batch_size: recordings in a forward pass.

    Returns:
        For each recording its classes, the best first: mappings with `label` and `score`, a probability.

    Raises:
        tubelets.data.modalities.modality.BadMediumError: if a file cannot be read.
        ValueError: if there is no recording, a recording does not fit the model, or the processor is missing.

    Example:
        >>> import tubelets
        >>> from tubelets.models.common.auto import inference_processor
        >>> config = tubelets.BiGruConfig(hidden_size=8, num_labels=3)
        >>> network = tubelets.BiGruForSkeletonClassification(config)
        >>> (found,) = classify_skeletons(torch.rand(1, 50, 25, 3), network, inference_processor(config), top_k=2)
        >>> len(found), sorted(found[0])
        (2, ['label', 'score'])
    """
    if processor is None:
        if isinstance(model, PreTrainedModel):
            raise ValueError("processor is None; give the processor of a model that is not loaded from a folder")
        processor = load_processor(model)
    network: Any = model
    if not isinstance(model, PreTrainedModel):
        network = load_model(AutoModelForSkeletonClassification, model).to(evaluation_device())
    if top_k < 1 or batch_size < 1:
        raise ValueError(f"top_k and batch_size must be at least 1, got {top_k} and {batch_size}")
    several = list(recordings) if isinstance(recordings, (list, tuple)) else [recordings]
    if not several:
        raise ValueError("there is no recording; give at least one")
    found: list[list[dict[str, Any]]] = []
    for start in range(0, len(several), batch_size):
        clips = [_prepared(each, processor, layout) for each in several[start : start + batch_size]]
        found += _scored(torch.cat(clips), network, top_k)
    return found


def _prepared(recording: Any, processor: Any, layout: str | None) -> Tensor:
    """One clip `(1, bodies, frames, joints, coordinates)`."""
    if not isinstance(recording, (str, Path)):
        return processor(recording, layout=layout, return_tensors="pt")["skeletons"]
    path = Path(recording)
    read = read_recording(recording_bytes(path), path.name)
    joints = read.joints
    if read.layout is not None:
        values = torch.from_numpy(joints)
        joints = convert_layout(values, read.layout, processor.skeleton_layout, read.has_confidence).numpy()
    if read.has_confidence and not processor.has_confidence and joints.shape[3] == processor.num_coordinates + 1:
        joints = joints[..., :-1]
    return processor(joints, layout=layout if read.layout is None else None, return_tensors="pt")["skeletons"]


@torch.no_grad()
def _scored(clips: Tensor, model: Any, top_k: int) -> Sequence[list[dict[str, Any]]]:
    was_training = model.training
    model.eval()
    logits = model(clips.to(model.device)).logits
    model.train(was_training)
    scores, numbers = logits.float().softmax(dim=-1).topk(min(top_k, logits.shape[-1]), dim=-1)
    names = model.config.id2label
    return [
        [{"label": names[number], "score": score} for number, score in zip(*pair, strict=True)]
        for pair in zip(numbers.tolist(), scores.tolist(), strict=True)
    ]
