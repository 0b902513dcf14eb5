"""Whether a checkpoint belongs to a run: the same recipe, the same data, and not more steps."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tubelets.data.sources.source import Source
from tubelets.training.checkpointing import CheckpointError, read_state_file

logger = logging.getLogger("tubelets.training")

# Fields that do not change what is learned, or whose change the state of the stream and `check_same_data` judge.
_FREE_DATA = ("path", "num_workers", "backend", "on_bad_sample")
_LENGTH = ("epochs", "max_steps", "schedule_epochs")


def check_same_recipe(checkpoint: Path, current: Mapping[str, Any]) -> dict[str, Any]:
    """Reject to resume with another model, other data or another optimisation.

    The data may have moved, and may be decoded by other workers or another decoder. With `run.extend` the length of the
    run may differ.

    Args:
        checkpoint: its folder.
        current: the recipe of this run, as plain containers.

    Returns:
        The state of the run in the checkpoint; its other files are not read.

    Raises:
        CheckpointError: naming the fields that differ, or if the folder is not a checkpoint.
    """
    state = read_state_file(checkpoint)
    saved = state["recipe"]
    free = {"data": _FREE_DATA, "optimization": _LENGTH if current["run"].get("extend") else ()}
    differing = [
        f"{section}.{name}: {saved[section].get(name)!r} -> {value!r}"
        for section in ("model", "data", "optimization")
        for name, value in current[section].items()
        if saved[section].get(name) != value and name not in free.get(section, ())
    ]
    differing += [
        f"run.{name}: {saved['run'][name]!r} -> {current['run'][name]!r}"
        for name in ("seed", "batch_size", "precision")
        if saved["run"][name] != current["run"][name]
    ]
    if differing:
        longer = any(each.startswith(f"optimization.{name}:") for each in differing for name in _LENGTH)
        raise CheckpointError(
            f"the checkpoint belongs to another run ({'; '.join(differing)}); use its settings, or another output_dir"
            + (", or --extend to train longer" if longer else "")
        )
    return state


def check_length(step: int, total_steps: int, extend: bool) -> None:
    """Reject to resume behind the end of a run, and say so at its end.

    Args:
        step: steps of the checkpoint.
        total_steps: steps of this run.
        extend: whether it is meant to be longer.

    Raises:
        CheckpointError: if the checkpoint has more steps.
    """
    if step > total_steps:
        raise CheckpointError(
            f"the checkpoint has {step} steps and this run {total_steps}; give more epochs or steps, or another "
            "output_dir"
        )
    if extend and step == total_steps:
        logger.warning("--extend: the run has its %d steps already; give more epochs or steps to go on", total_steps)


def check_same_data(state: Mapping[str, Any], source: Source, now: str) -> None:
    """Reject to resume with other videos under the same names.

    A part that cannot be read is not an error: streams skip and report what is damaged.

    Args:
        state: of the run in the checkpoint; `data` is what `Source.fingerprints` returned, absent in older ones.
        source: the data of this run.
        now: where they are.

    Raises:
        CheckpointError: naming the first part that differs.
    """
    before, saved = state["recipe"]["data"]["path"], state.get("data", {})
    found = source.fingerprints()
    if not found.keys() & saved.keys() and _place(before) != _place(now):
        raise CheckpointError(
            f"the checkpoint was trained on {before} and this run reads {now}, and whether they are the same cannot be "
            "seen from here; use the same path, or another output_dir"
        )
    check_same_files(saved, found)


def check_same_files(saved: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Reject data with other files under the same names; those that cannot be read are left to the stream.

    Args:
        saved: `Source.fingerprints` when a checkpoint was written.
        found: the same now.

    Raises:
        CheckpointError: naming the first file that differs.

    Example:
        >>> check_same_files({"train-0.tar": "10240-58f1fd8e", "train-1.tar": "10240-9d3a1f00"}, {"train-0.tar": "7-0"})
        Traceback (most recent call last):
        tubelets.training.checkpointing.CheckpointError: train-0.tar is not the file that the checkpoint was trained ...
    """
    for name, expected in saved.items():
        if found.get(name, expected) != expected:
            raise CheckpointError(
                f"{name} is not the file that the checkpoint was trained on (its size and a checksum were {expected}, "
                f"and are {found[name]}); restore it, or start a new run in another output_dir"
            )


def _place(path: str) -> str:
    """A local path without links and relative parts, others as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else path.rstrip("/")
