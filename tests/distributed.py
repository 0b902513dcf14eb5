"""Running a function in several gloo processes on loopback."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import preloaded  # noqa: F401  (what the server imports)


def _process(rank: int, function: Callable[..., Any], world_size: int, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    try:
        torch.save(function(rank, world_size, *arguments), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # The result is written. An ordinary end of Python races with threads of gloo, and aborts now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_processes(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Call `function(rank, world_size, *arguments)` in each of `world_size` processes; their results by rank."""
    with tempfile.TemporaryDirectory() as folder:
        # Forks of a server that has imported torch already, see `preloaded`.
        arguments = (function, world_size, folder, arguments)
        mp.start_processes(_process, arguments, nprocs=world_size, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world_size)]
