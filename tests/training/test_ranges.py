"""Every number that a recipe or a command line can hold has a range, and values outside of it are refused at once."""

import dataclasses
import math
import re
import typing
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pretraining import DEMO

from tubelets.ranges import Range, RangeError, check_ranges, ranges_of
from tubelets.tasks.classification.arguments import AudioDataArguments, VideoDataArguments
from tubelets.training.checkpointing import CheckpointError, check_writable
from tubelets.training.finetuning_arguments import _INHERITED, FinetuningArguments, ModelArguments
from tubelets.training.optimization import plan_run
from tubelets.training.parsing import RecipeError
from tubelets.training.recipe import OptimizationSection, Recipe, load_recipe, recipe_help

GIVEN = ["--data.path=shards", "--run.output_dir=runs/x"]
SECTIONS = get_type_hints(Recipe)
ARGUMENTS: dict[type, dict[str, Any]] = {
    ModelArguments: {"model_type": "sigma"},
    VideoDataArguments: {"train_dir": "videos"},
    AudioDataArguments: {"train_dir": "sounds"},
    FinetuningArguments: {"output_dir": "runs/x", "use_cpu": True},
}
# The number of a process, and a field that is refused whatever its value.
WITHOUT_RANGE = {"local_rank", "warmup_steps"}


def is_numeric(annotation: Any) -> bool:
    parts = typing.get_args(annotation)
    if not parts or annotation in (int, float):
        return annotation in (int, float)
    return typing.get_origin(annotation) is not typing.Literal and any(is_numeric(part) for part in parts)


def inherited(cls: type) -> dict[str, Range] | None:
    return _INHERITED if cls is FinetuningArguments else None


def numeric_fields() -> list[tuple[type, str]]:
    classes = [*SECTIONS.values(), *ARGUMENTS]
    hints = {cls: get_type_hints(cls) for cls in classes}
    return [
        (cls, each.name) for cls in classes for each in dataclasses.fields(cls) if is_numeric(hints[cls][each.name])
    ]


CASES = [case for case in numeric_fields() if case[1] not in WITHOUT_RANGE]


def test_fields_are_found() -> None:
    names = {name for _, name in CASES}
    assert names >= {
        "keep_checkpoints",
        "epochs",
        "betas",
        "crop_scales",
        "k",
        "test_crops",
        "adam_beta1",
        "save_steps",
    }
    assert len(CASES) > 80


@pytest.mark.parametrize(("cls", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_hostile_numbers_are_refused_with_field_value_and_range(cls: type, name: str) -> None:
    allowed = ranges_of(cls, inherited(cls))[name]
    low, high = allowed._bounds
    hostile = [math.nan, math.inf, -math.inf, low - 1, high + 1, -5, "3", True]
    hostile += [low] if allowed.interval.startswith("(") else []
    hostile += [high] if allowed.interval.endswith(")") else []
    several = typing.get_origin(next(iter(_parts(get_type_hints(cls)[name])))) is list
    for value in hostile:
        given = [value] if several else value
        place, got = re.escape(f"{name}{'[0]' if several else ''}"), re.escape(f"{allowed}, got {value!r}")
        shown = f"{place} must be (an integer, )?{got}"
        with pytest.raises(RangeError, match=shown):
            build(cls, **{name: given})


def _parts(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if type(None) in typing.get_args(annotation) else (annotation,)


@cache
def recipe() -> Recipe:
    return load_recipe(DEMO, GIVEN)


def build(cls: type, **fields: Any) -> Any:
    if cls in ARGUMENTS:
        return cls(**ARGUMENTS[cls], **fields)
    section = next(name for name, each in SECTIONS.items() if each is cls)
    return dataclasses.replace(getattr(recipe(), section), **fields)


@pytest.mark.parametrize("cls", [*SECTIONS.values(), *ARGUMENTS], ids=lambda cls: cls.__name__)
def test_defaults_are_in_their_ranges(cls: type) -> None:
    check_ranges(build(cls), inherited=inherited(cls))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run.keep_checkpoints=-1", "run.keep_checkpoints must be at least 1, got -1"),
        ("optimization.betas=[0.9]", "optimization.betas must be 2 numbers"),
        ("optimization.warmup_epochs=900", "warmup_epochs must be at most the 1 epochs of the schedule, got 900"),
        ("data.crop_scales=[]", "data.crop_scales must list at least one"),
    ],
)
def test_a_recipe_is_checked_when_it_is_read(words: str, message: str) -> None:
    given = [*GIVEN, "--optimization.max_steps=null", "--optimization.epochs=1", "--optimization.warmup_epochs=0"]
    with pytest.raises(RecipeError, match=re.escape(f"{DEMO}: ") + ".*" + re.escape(message)):
        load_recipe(DEMO, [*given, f"--{words}"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_crops": 2}, "test_crops must be 1 or 3, got 2"),
        ({"crop_scale": [0.5, 0.2]}, r"crop_scale must be ascending, got \[0.5, 0.2\]"),
        ({"color_jitter": [1.0, 1.0, 1.0, 0.6]}, "hue, must be in .0, 0.5., got 0.6"),
        ({"color_jitter": [1.0]}, "color_jitter must be 4 numbers"),
    ],
)
def test_what_belongs_together_is_checked_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RangeError, match=message):
        VideoDataArguments(train_dir="videos", **fields)


def test_a_warm_up_longer_than_training() -> None:
    with pytest.raises(ValueError, match="warmup_epochs must be at most the 2 epochs of the run"):
        FinetuningArguments(output_dir="x", use_cpu=True, do_train=True, num_train_epochs=2)


def test_a_warm_up_longer_than_the_steps_is_shortened_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_run(OptimizationSection(max_steps=10, global_batch_size=4), 400, batch_size=4, num_processes=1)
    assert plan.schedule.warmup_steps == 10
    assert "warmup_epochs=40 has 4000 steps, and the run 10" in caplog.text


def test_help_shows_ranges() -> None:
    shown = " ".join(recipe_help("optimization").split())
    assert "max_steps is set; at least 1 (default: 800)" in shown
    assert "; in [0, 1) (default: [0.9, 0.95])" in shown
    assert "Annotated" not in shown


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    check_writable("output_dir", tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"output_dir='.*file/run' cannot be written \(Not a directory\)"):
        check_writable("output_dir", tmp_path / "file" / "run")
    with pytest.raises(CheckpointError, match=r"file' cannot be written \(File exists\); choose another folder"):
        check_writable("output_dir", tmp_path / "file")
