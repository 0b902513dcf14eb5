"""NaN, infinity and numbers out of range are refused where settings are made and functions are called."""

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import torch

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.modalities.clips import ClipSpec
from tubelets.data.modalities.encoding import encode_video
from tubelets.data.modalities.frame_sampling import dense_clip, uniform_clip
from tubelets.data.modalities.specs import SkeletonSpec, SpectrogramSpec, TextSpec, VideoSpec, WaveformSpec
from tubelets.data.transforms.augmentations import ColorJitter, RandAugment, RandomErasing
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.data.transforms.spatial import (
    CenterCrop,
    HorizontalFlip,
    MultiScaleCrop,
    RandomResizedCrop,
    ShortSideResize,
    StretchedCrop,
)
from tubelets.draws import categorical, randint
from tubelets.evaluation.features import FeatureSet
from tubelets.evaluation.frozen import effective_rank
from tubelets.evaluation.neighbours import retrieval_recall, weighted_knn
from tubelets.evaluation.probes import AttentiveProbe, linear_probe
from tubelets.evaluation.video_text import video_text_recall
from tubelets.masking import NoiseMaskGenerator, RandomMaskGenerator, TrajectoryMaskGenerator, TubeMaskGenerator
from tubelets.masking.noise import color_noise, gaussian_response
from tubelets.masking.regularized_blue import clustering_score, regularized_blue_masks
from tubelets.motion import MotionSettings, sample_colour_change
from tubelets.motion.paths import box_anchors, smooth_paths, smoothing_matrix
from tubelets.objectives import (
    KeyQueue,
    assign_prototypes,
    assignment_statistics,
    audio_visual_contrastive_loss,
    dual_softmax,
    info_nce,
    masked_regression_loss,
    prototype_cross_entropy,
    sinkhorn,
    symmetric_nce,
)
from tubelets.objectives.classification import classification_loss
from tubelets.tasks.metrics import mean_average_precision, mean_class_accuracy, top_k_accuracy

GRID = {"grid": (2, 4, 4)}
SETTINGS: dict[type, dict[str, Any]] = {
    MotionSettings: {"long_side": (0.1, 0.4)},
    TubeMaskGenerator: GRID,
    RandomMaskGenerator: GRID,
    TrajectoryMaskGenerator: GRID,
    NoiseMaskGenerator: {"kind": "green3d", "sigma_low": 0.5, "sigma_high": 2.0, "bank_size": 1, **GRID},
    RandAugment: {},
    ColorJitter: {},
    RandomErasing: {},
    Mixing: {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    SoundAugmentation: {},
    MultiScaleCrop: {},
    StretchedCrop: {},
    RandomResizedCrop: {},
    HorizontalFlip: {},
    ShortSideResize: {},
    CenterCrop: {},
    ClipSpec: {},
    AudioSpec: {"sampling_rate": 16000, "seconds": 1.0},
    VideoSpec: {"num_frames": 4, "size": (32, 32)},
    WaveformSpec: {"sampling_rate": 16000, "seconds": 1.0},
    SpectrogramSpec: {"sampling_rate": 16000, "max_length": 64, "num_mel_bins": 16},
    TextSpec: {"max_length": 8, "vocab_size": 10},
    SkeletonSpec: {"layout": "coco-17", "num_frames": 4, "num_joints": 17},
}
# A mean may be negative, and so may a seed.
SIGNED = {"mean", "seed"}


def numeric_fields(cls: type) -> list[str]:
    hints = get_type_hints(cls)
    return [each.name for each in dataclasses.fields(cls) if _is_numeric(hints[each.name])]


def _is_numeric(annotation: Any) -> bool:
    if annotation in (int, float):
        return True
    inner = typing.get_args(annotation)
    return typing.get_origin(annotation) is not typing.Literal and any(_is_numeric(each) for each in inner)


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls in SETTINGS for name in numeric_fields(cls)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_settings_refuse_hostile_numbers(cls: type, name: str) -> None:
    good = cls(**SETTINGS[cls])
    value = getattr(good, name)
    for hostile in (math.nan, math.inf, *(() if name in SIGNED else (-1,))):
        inner = value[0][1:] if isinstance(value, tuple) and isinstance(value[0], tuple) else None
        changed: Any = hostile
        if inner is not None:
            changed = ((hostile, *inner), *value[1:])
        elif isinstance(value, tuple):
            changed = (hostile, *value[1:])
        with pytest.raises(ValueError, match=r"\d|nan|inf"):
            dataclasses.replace(good, **{name: changed})


NAN = math.nan
UNIT, BAD = torch.eye(3), torch.full((3, 3), NAN)
LABELS = torch.arange(3)
SEEDED = torch.Generator()


def features(values: torch.Tensor = UNIT, labels: torch.Tensor = LABELS, count: int = 3) -> FeatureSet:
    return FeatureSet(values, labels, [str(number) for number in range(count)])


CALLS: list[tuple[Callable[[], Any], str]] = [
    # objectives
    (lambda: info_nce(UNIT, UNIT, UNIT, NAN), "temperature must be positive, got nan"),
    (lambda: info_nce(UNIT[:0], UNIT[:0], UNIT), "at least one clip"),
    (lambda: symmetric_nce(UNIT, UNIT, 0.0), "temperature must be positive, got 0.0"),
    (lambda: symmetric_nce(UNIT[:0], UNIT[:0], 1.0), "B at least 1"),
    (lambda: audio_visual_contrastive_loss(UNIT, UNIT, math.inf), "temperature must be positive, got inf"),
    (lambda: audio_visual_contrastive_loss(UNIT[:0], UNIT[:0]), "at least one clip"),
    (lambda: KeyQueue(3, 6).enqueue(UNIT[:0]), r"keys has shape \(0, 3\)"),
    (lambda: sinkhorn(UNIT, NAN), "epsilon=nan"),
    (lambda: sinkhorn(UNIT, 0.1, -1), "iterations=-1"),
    (lambda: sinkhorn(UNIT[:0]), "not empty"),
    (lambda: assign_prototypes(UNIT, UNIT[0]), "matrices of equal width"),
    (lambda: prototype_cross_entropy(UNIT, UNIT, LABELS, 0), "temperature must be positive, got 0"),
    (lambda: prototype_cross_entropy(UNIT, UNIT, LABELS[:2]), r"targets must be int64 \(3,\)"),
    (lambda: assignment_statistics(LABELS, 0), "num_prototypes must be at least 1"),
    (lambda: masked_regression_loss(UNIT[:0], UNIT[:0]), "not be empty"),
    (lambda: dual_softmax(LABELS.float()), "must be a matrix"),
    (lambda: classification_loss(UNIT, LABELS[:2]), "a row for each of the 3 clips"),
    (
        lambda: classification_loss(UNIT, LABELS, "multi_label_classification"),
        "labels of several classes must have shape",
    ),
    (lambda: classification_loss(UNIT[:0], LABELS[:0]), "the batch has no clips"),
    # masks
    (lambda: gaussian_response((4, 4), NAN), "sigma must be positive and finite"),
    (lambda: color_noise(torch.randn(4, 4), "green", 2.0, 1.0), "sigma_high must be larger than sigma_low"),
    (lambda: NoiseMaskGenerator("blue3d", (2, 4, 4), sigma_low=(2.0, 1.0)), "sigma_low must be .* two that ascend"),
    (lambda: NoiseMaskGenerator("blue3d", (2, 4, 4), weights=(NAN,)), "weights must be"),
    (lambda: TubeMaskGenerator((2, 4, 4))(-1), "batch_size must be at least 0, got -1"),
    (lambda: regularized_blue_masks(0, (4, 4), 2), "num_masks"),
    (lambda: clustering_score(UNIT[None], (NAN,)), "finite weights"),
    (lambda: randint(0, 2, generator=SEEDED), "stop must be at least 1"),
    (lambda: categorical([0.5, NAN], 2, generator=SEEDED), "probabilities must be finite"),
    (lambda: categorical([0.0, 0.0], 2, generator=SEEDED), "one above 0"),
    # motion
    (lambda: sample_colour_change(2, SEEDED, hue=NAN), "finite and not negative"),
    (lambda: box_anchors([-32], [1]), "scales and ratios must be positive"),
    (lambda: smoothing_matrix(8, 0.0), "sigma positive"),
    (lambda: smooth_paths(torch.rand(8, 2), LABELS[2], LABELS[:2], (32, 32), 1), "at least 2 frames"),
    # decoding
    (lambda: dense_clip(10, 4, 0), "stride must be at least 1, got 0"),
    (lambda: uniform_clip(10, NAN), "num_frames must be at least 1, got nan"),  # type: ignore[arg-type]
    (lambda: encode_video(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), fps=0), "fps be positive"),
    # evaluation
    (lambda: top_k_accuracy(BAD, LABELS), "3 of 3 rows of scores are NaN"),
    (lambda: mean_class_accuracy(BAD, LABELS), "rows of scores are NaN"),
    (lambda: mean_average_precision(BAD, UNIT), "rows of scores are NaN"),
    (lambda: top_k_accuracy(UNIT, LABELS.float()), "class indices"),
    (lambda: top_k_accuracy(UNIT, LABELS, 0), "k must be at least 1"),
    (lambda: top_k_accuracy(UNIT[:0], LABELS[:0]), "N at least 1"),
    (lambda: top_k_accuracy(UNIT, LABELS + 1), r"labels must lie in \[0, 3\)"),
    (lambda: top_k_accuracy(UNIT, LABELS[:2]), "labels must have shape"),
    (lambda: retrieval_recall(BAD, LABELS, UNIT, LABELS), "rows of queries are NaN"),
    (lambda: retrieval_recall(UNIT, LABELS, BAD, LABELS), "rows of bank are NaN"),
    (lambda: retrieval_recall(UNIT, LABELS, UNIT, LABELS, ks=()), "k must be at least 1"),
    (lambda: weighted_knn(UNIT, UNIT, LABELS, 2), r"bank_labels must lie in \[0, 2\)"),
    (lambda: weighted_knn(UNIT, UNIT, LABELS, 3, temperature=0), "temperature must be positive"),
    (lambda: weighted_knn(UNIT[:0], UNIT, LABELS, 3), "Q and M at least 1"),
    (lambda: video_text_recall(BAD, LABELS), "rows of video_to_text are NaN"),
    (lambda: video_text_recall(UNIT[:0], LABELS[:0]), "not empty"),
    (lambda: effective_rank(BAD), "features must be finite"),
    (lambda: features(BAD), "rows of features are NaN"),
    (lambda: features(count=2), "N labels and N clip_ids"),
    (lambda: features(labels=LABELS - 1), "class indices"),
    (lambda: linear_probe(features(), features(), penalty=-1.0), "penalty must be positive"),
    (lambda: AttentiveProbe(8, 0), "must be at least 1"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message for _, message in CALLS])
def test_functions_refuse_wrong_calls(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
