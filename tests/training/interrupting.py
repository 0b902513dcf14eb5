"""Ending runs as schedulers do: a signal to the process group of each process, which loader workers belong to."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from preloaded import rank_variables, start_script


def interrupt(
    words: Sequence[object], output: Path, ready: Callable[[], bool], number: signal.Signals, world_size: int = 1
) -> str:
    """Start a run, send a signal to its groups when it is `ready`, and wait until it ends.

    Returns:
        Standard error of the first process.
    """
    starts = enumerate(rank_variables(world_size))
    processes = [start_script(words, output / f"rank{i}", environment=each, own_group=True) for i, each in starts]
    try:
        deadline = time.monotonic() + 120
        while not ready():
            assert all(process.is_alive() for process in processes), (output / "rank0.stderr").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        _signal_groups(processes, number)
        for process in processes:
            process.join(90)
        expected = -signal.SIGKILL if number is signal.SIGKILL else 0
        errors = (output / "rank0.stderr").read_text()
        assert [process.exitcode for process in processes] == [expected] * world_size, errors[-3000:]
        return errors
    finally:
        _signal_groups([process for process in processes if process.is_alive()], signal.SIGKILL)


def _signal_groups(processes: Sequence[ForkServerProcess], number: signal.Signals) -> None:
    for process in processes:
        assert process.pid is not None
        os.killpg(process.pid, number)
