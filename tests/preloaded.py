"""Running a script in a process of its own that need not import torch and transformers again.

Those imports take longer than most small runs. A server process imports them once, and every run is a fork of it: as
clean as a new interpreter, apart from what an import leaves behind. Tests of imports, of launchers, and of environment
variables that are read by an import start a real interpreter instead.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

COMMAND = "tubelets"
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "accelerate",
        "datasets",
        "sklearn.linear_model",
        "transformers.trainer",
        "tubelets.models.common.auto",
        "tubelets.models.common.safe_loading",
        "tubelets.evaluation.online",
        "tubelets.hub.cards",
        "tubelets.training.pretraining",
    ]
)


def _run(words: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    if environment.pop("OWN_GROUP", ""):
        os.setpgrp()
    for stream in ("stdout", "stderr"):
        file = os.open(f"{output}.{stream}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, getattr(sys, stream).fileno())
    # A child of the server would start its own children, such as loader workers, by a server of its own.
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    if words[0] == COMMAND:
        runpy.run_module(COMMAND, run_name="__main__")
        return
    # As an interpreter does: the folder of the script comes first.
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")


def start_script(
    words: Sequence[object],
    output: Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    own_group: bool = False,
) -> ForkServerProcess:
    """Start a Python script with its arguments; it writes to `output` with `.stdout` and `.stderr` appended.

    With `own_group` it leads a process group of its own, as one that a scheduler starts.
    """
    variables = {**os.environ, **(environment or {}), "OWN_GROUP": "1" if own_group else ""}
    arguments = ([str(word) for word in words], str(folder or Path.cwd()), variables)
    process = _SERVER.Process(target=_run, args=(*arguments, str(output)))
    process.start()
    return process


def rank_variables(world_size: int) -> list[dict[str, str]]:
    """The environment variables that a launcher gives to each process."""
    if world_size == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "MASTER_PORT": port}
    variables = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in range(world_size)]
    return [{name: str(value) for name, value in each.items()} | {"MASTER_ADDR": "127.0.0.1"} for each in variables]


def run_script(
    *words: object,
    timeout: float = 300,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    world_size: int = 1,
) -> subprocess.CompletedProcess[str]:
    """Run a Python script, or the command, with its arguments to the end, as `subprocess.run` or a launcher would.

    Args:
        words: path of the script, or `tubelets` for the command, and its arguments.
        timeout: seconds after which the run is ended.
        folder: where it runs; by default here.
        environment: variables to add.
        world_size: processes that run it together.

    Returns:
        Highest exit code, and standard output and standard error of the first process.
    """
    variables = [{**each, **(environment or {})} for each in rank_variables(world_size)]
    with tempfile.TemporaryDirectory() as output:
        processes = [start_script(words, Path(output, str(i)), folder, each) for i, each in enumerate(variables)]
        deadline = time.monotonic() + timeout
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
        stuck = [process for process in processes if process.exitcode is None]
        for process in stuck:
            process.kill()
            process.join()
        texts = [Path(output, f"0.{stream}").read_text(encoding="utf-8") for stream in ("stdout", "stderr")]
        if stuck:
            raise subprocess.TimeoutExpired([str(word) for word in words], timeout, *texts)
    code = max((process.exitcode or 0 for process in processes), key=abs)
    return subprocess.CompletedProcess([str(word) for word in words], code, *texts)
