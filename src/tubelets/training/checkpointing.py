"""Checkpoints that are whole or absent: written aside and renamed, checked before they are loaded."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import load
from accelerate.utils.constants import RNG_STATE_NAME
from safetensors import SafetensorError

STATE_FILE = "training_state.json"
NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint is incomplete or belongs to another run."""


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoints of a run, oldest first.

    Args:
        output_dir: the run's folder; need not exist.

    Returns:
        Folders `checkpoint-<step>`.
    """
    found = [path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: str | Path,
    state: Mapping[str, Any],
    loader_state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Save everything a run needs to go on exactly; call it on all processes.

    The folder is written under another name and renamed once every file in it is complete. Older checkpoints are
    removed only after that.

    Args:
        accelerator: holds model, optimiser, scaler and random states.
        output_dir: the run's folder.
        state: the run's own state, with an integer `step`; JSON.
        loader_state: this process's position in the data; JSON.
        keep: newest checkpoints to keep, at least 1.

    Returns:
        The checkpoint's folder.
    """
    output_dir = Path(output_dir)
    final = output_dir / f"checkpoint-{state['step']}"
    aside = output_dir / f".incomplete-{final.name}"
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(aside), safe_serialization=True)
    (aside / f"loader_{accelerator.process_index}.json").write_text(json.dumps(loader_state), encoding="utf-8")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sizes = {str(path.relative_to(aside)): path.stat().st_size for path in _files(aside)}
        content = {**state, "num_processes": accelerator.num_processes, "files": sizes}
        (aside / STATE_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        _flush(aside)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        for old in list_checkpoints(output_dir)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return final


def load_checkpoint(accelerator: Accelerator, folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Restore model, optimiser, scaler and random states; call it on all processes after `prepare`.

    Args:
        accelerator: what to restore.
        folder: the checkpoint.

    Returns:
        The run's own state, and this process's position in the data.

    Raises:
        CheckpointError: if a file is missing, damaged, has another size or holds code, or the number of processes
            differs.
    """
    folder = Path(folder)
    state = read_state(folder)
    if state["num_processes"] != accelerator.num_processes:
        raise CheckpointError(
            f"{folder} was written by {state['num_processes']} processes and this run has "
            f"{accelerator.num_processes}; start that many, or begin anew with model.init_from"
        )
    try:
        # Accelerate goes on without random states that it cannot read, and the run would not be the same.
        load(folder / f"{RNG_STATE_NAME}_{accelerator.process_index}.pkl")
        accelerator.load_state(str(folder))
    except (pickle.UnpicklingError, EOFError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds a file that is damaged or more than tensors and numbers, and is not read "
            f"({str(error).splitlines()[0]}); remove the folder to resume from the one before it"
        ) from error
    loader_state = json.loads((folder / f"loader_{accelerator.process_index}.json").read_text(encoding="utf-8"))
    return state, loader_state


def read_state(folder: str | Path) -> dict[str, Any]:
    """Read a checkpoint's own state and check that its files are whole.

    Args:
        folder: the checkpoint.

    Returns:
        The state.

    Raises:
        CheckpointError: if the folder is no checkpoint, or a file is missing or has another size.
    """
    folder = Path(folder)
    if not (folder / STATE_FILE).is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {STATE_FILE}")
    state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    for name, size in state["files"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else "none"
        if found != size:
            raise CheckpointError(
                f"{path} should have {size} bytes and has {found}; remove {folder} to resume from the one before"
            )
    return state


def check_same_recipe(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse to resume with another model, other data or another optimisation.

    Args:
        saved: the recipe in the checkpoint, as plain containers.
        current: the recipe of this run.

    Raises:
        CheckpointError: naming the fields that differ.
    """
    differing = [
        f"{section}.{name}: {saved[section].get(name)!r} -> {value!r}"
        for section in ("model", "data", "optimization")
        for name, value in current[section].items()
        if saved[section].get(name) != value
    ]
    differing += [
        f"run.{name}: {saved['run'][name]!r} -> {current['run'][name]!r}"
        for name in ("seed", "batch_size", "precision")
        if saved["run"][name] != current["run"][name]
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint belongs to another run ({'; '.join(differing)}); use its settings, or another output_dir"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flush(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
