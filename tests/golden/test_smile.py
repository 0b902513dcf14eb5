"""Every golden case of SMILE; what a case checks is read from its own content."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from cases_io import case_paths, load_case
from tubelets.data.sampling import (
    dense_clip,
    dense_test_clips,
    dense_test_frames,
    dense_test_starts,
    finetune_clip,
    segment_test_clips,
)
from tubelets.data.transforms import multi_scale_crop_candidates

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def has_examples_with(*keys: str) -> Callable[[Case], bool]:
    """Tells cases whose examples all have these keys."""

    def check(case: Case) -> bool:
        examples = case.get("examples")
        return (
            isinstance(examples, list) and bool(examples) and all(set(keys) <= example.keys() for example in examples)
        )

    return check


def check_clip_sampling(case: Case, tensors: Tensors) -> None:
    for example in case["examples"]:
        frames = example["video_frames"]
        pretrain, finetune, dense = example["pretrain"], example["dense_train"], example["dense_test"]
        assert dense_clip(frames, 16, 4, pretrain["start"]) == pretrain["frames"], frames
        assert finetune_clip(frames, 16, 4, end=finetune["end_used"]) == finetune["frames"], frames
        assert dense_test_frames(frames, 16, 4) == dense["frames"], frames
        for clips, starts in dense["clip_starts"].items():
            assert dense_test_starts(len(dense["frames"]), 16, int(clips)) == starts, (frames, clips)
            expected = [dense["frames"][start : start + 16] for start in starts]
            assert dense_test_clips(frames, 16, 4, int(clips)) == expected, (frames, clips)
        segment = example["segment_test"]
        assert segment_test_clips(frames, 16) == [segment["clip0"], segment["clip1"]], frames
        assert sorted(segment["clip0"] + segment["clip1"]) == segment["frames"], frames


def check_multi_scale_crop(case: Case, tensors: Tensors) -> None:
    for example in case["examples"]:
        size = example["input_size"]
        candidates = multi_scale_crop_candidates(example["image_height"], example["image_width"], size)
        assert [[width, height] for (height, width), _ in candidates] == example["crop_sizes_wh"]
        offsets = [[[left, top] for top, left in places] for _, places in candidates]
        assert offsets == example["offsets_xy_by_crop"]


KINDS: list[tuple[Callable[[Case], bool], Callable[[Case, Tensors], None]]] = [
    (has_examples_with("video_frames", "pretrain", "dense_train", "dense_test", "segment_test"), check_clip_sampling),
    (has_examples_with("image_height", "image_width", "crop_sizes_wh", "offsets_xy_by_crop"), check_multi_scale_crop),
]


@pytest.mark.parametrize("path", case_paths("smile"), ids=lambda path: path.stem)
def test_case(path):
    case, tensors = load_case(path)
    checks = [check for matches, check in KINDS if matches(case)]
    if not checks:
        pytest.fail(f"unknown kind of case: {path.stem}")
    for check in checks:
        check(case, tensors)
