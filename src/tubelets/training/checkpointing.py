"""Checkpoints of a run: find, write atomically, verify and load."""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import load
from accelerate.utils.constants import OPTIMIZER_NAME, RNG_STATE_NAME
from safetensors import safe_open

from tubelets.models.common.safe_loading import unpickling_reason

logger = logging.getLogger("tubelets.training")

STATE_FILE = "training_state.json"
NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint is incomplete or belongs to another run."""


def check_writable(name: str, folder: str | Path) -> None:
    """Create the folder of a run, and refuse one in which no file can be written.

    Args:
        name: of the field that names it.
        folder: the folder.

    Raises:
        CheckpointError: naming field, folder and reason.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            f"{name}={str(folder)!r} cannot be written ({error.strerror}); choose another folder"
        ) from error


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Folders `checkpoint-<step>` of a run, oldest first; the run's folder need not exist."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def loader_state_file(checkpoint: str | Path, process: int) -> Path:
    """File of a checkpoint with the data position of a process."""
    return Path(checkpoint) / f"loader_{process}.json"


def find_checkpoint(
    output_dir: str | Path, resume: str | None = "auto", num_processes: int | None = None
) -> Path | None:
    """The checkpoint that a run resumes from.

    Args:
        output_dir: the run's folder; need not exist.
        resume: "auto" or None for the newest checkpoint, "never" to reject a folder that has one, or the
            path of a checkpoint.
        num_processes: processes of this run, to skip checkpoints that not all of them finished writing; None if
            checkpoints are written atomically, as by `save_checkpoint`.

    Returns:
        Its folder, None to start from the beginning.

    Raises:
        CheckpointError: if the newest one was written by more processes, or there is one and `resume` is "never".
    """
    if resume not in (None, "auto", "never"):
        return Path(str(resume))
    for folder in reversed(list_checkpoints(output_dir)):
        if resume == "never":
            raise CheckpointError(f"{folder} exists and run.resume=never; choose another run.output_dir or remove it")
        if num_processes is None:
            return folder
        if loader_state_file(folder, num_processes).is_file():
            raise CheckpointError(f"{folder} was written by more than {num_processes} processes; start as many")
        if all(loader_state_file(folder, process).is_file() for process in range(num_processes)):
            return folder
        logger.warning("%s is incomplete and not used", folder)
    return None


def check_readable(folder: str | Path) -> None:
    """Reject a checkpoint with a file that is corrupt or contains more than tensors and numbers.

    Only tables of contents are read. Without this check, libraries report a corrupt file without its name, or ignore
    it.

    Args:
        folder: the checkpoint.

    Raises:
        CheckpointError: naming the file.
    """
    for path in sorted(Path(folder).iterdir()):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass
            elif path.suffix in (".bin", ".pkl", ".pt", ".pth"):
                load(path, map_location="cpu", mmap=True)
        except Exception as error:  # an unpickler can raise anything
            raise CheckpointError(
                f"{path} is corrupt, or holds more than tensors and numbers, and was not loaded "
                f"({unpickling_reason(error)}); remove {folder} to resume from the checkpoint before it"
            ) from None  # torch's own words advise to switch the check off


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: str | Path,
    state: Mapping[str, Any],
    loader_state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Save everything that an exact resume needs; call it on all processes.

    The folder is written under another name and renamed once every file in it is complete. Only then are older
    checkpoints removed.

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
    loader_state_file(aside, accelerator.process_index).write_text(json.dumps(loader_state), encoding="utf-8")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        where = {"num_processes": accelerator.num_processes, "device": accelerator.device.type}
        content = {**state, **where, "files": describe_files(aside, _files(aside))}
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
        CheckpointError: if a file is missing or corrupt, has another size or contains code, or the number of processes
            differs.
    """
    folder = Path(folder)
    state = read_state(folder)
    if state["num_processes"] != accelerator.num_processes:
        raise CheckpointError(
            f"{folder} was written by {state['num_processes']} processes and this run has "
            f"{accelerator.num_processes}; start that many, or a new run with model.init_from"
        )
    check_readable(folder)
    _check_random_states(folder, accelerator.process_index)
    written_on = state.get("device", accelerator.device.type)
    if written_on != accelerator.device.type:
        logger.warning(
            "%s was written on %s and this run is on %s: it continues with the same weights, data and optimiser, but "
            "rounds and draws dropout differently",
            folder,
            written_on,
            accelerator.device.type,
        )
    loader_state = read_json(loader_state_file(folder, accelerator.process_index))
    try:
        accelerator.load_state(str(folder))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{_unfitting_file(accelerator, folder)} does not fit this run ({_first_line(error)}); resume with the "
            f"recipe that wrote it, or remove {folder} to resume from the one before"
        ) from error
    return state, loader_state


def _unfitting_file(accelerator: Accelerator, folder: Path) -> Path:
    """The file that could not be restored: the optimiser's if that cannot take it, else the whole folder."""
    for number, optimizer in enumerate(accelerator._optimizers):
        path = folder / (f"{OPTIMIZER_NAME}.bin" if number == 0 else f"{OPTIMIZER_NAME}_{number}.bin")
        try:
            optimizer.load_state_dict(load(path, map_location="cpu"))
        except (KeyError, OSError, RuntimeError, TypeError, ValueError):
            return path
    return folder


def _check_random_states(folder: Path, process: int) -> None:
    """Reject a checkpoint without random states, which accelerate would go on without; a device's own may be absent."""
    path = folder / f"{RNG_STATE_NAME}_{process}.pkl"
    missing = {"random_state", "numpy_random_seed", "torch_manual_seed"}
    if path.is_file():
        missing -= load(path, map_location="cpu").keys()
    if missing:
        raise CheckpointError(
            f"{path} lacks {', '.join(sorted(missing))}, without which the run would not continue as it would have; "
            f"remove {folder} to resume from the one before"
        )


def read_state(folder: str | Path) -> dict[str, Any]:
    """Read the state that `save_checkpoint` was given, after checking every file against its checksum.

    Args:
        folder: the checkpoint.

    Raises:
        CheckpointError: if the folder is not a checkpoint, or a file is missing or damaged.
    """
    folder = Path(folder)
    state = read_state_file(folder)
    check_files(folder, state["files"])
    return state


def read_state_file(folder: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` was given, without looking at the other files; see `read_state`."""
    if not (folder / STATE_FILE).is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: {STATE_FILE} not found")
    return read_json(folder / STATE_FILE)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint.

    Args:
        path: the file.

    Raises:
        CheckpointError: naming the file, if it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}); remove {path.parent} to resume from the one before"
        ) from error


def describe_files(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and checksum of files of a checkpoint by name, for `check_files`.

    Args:
        folder: the checkpoint.
        files: files in it.
    """
    return {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _checksum(path)} for path in files}


def check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Reject a checkpoint with a file that is missing, cut off or changed.

    Args:
        folder: the checkpoint.
        files: what `describe_files` returned; sizes alone in older checkpoints.

    Raises:
        CheckpointError: naming the file, and what to do.
    """
    for name, stated in files.items():
        path = folder / name
        expected = stated if isinstance(stated, Mapping) else {"bytes": stated}
        found = path.stat().st_size if path.is_file() else "none"
        if found != expected["bytes"]:
            raise CheckpointError(
                f"{path} should have {expected['bytes']} bytes and has {found}; remove {folder} to resume from the "
                "one before"
            )
        if "sha256" in expected and _checksum(path) != expected["sha256"]:
            raise CheckpointError(
                f"{path} is damaged: its bytes are not those that were written (sha256); remove {folder} to resume "
                "from the one before"
            )


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            found.update(block)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flush(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
