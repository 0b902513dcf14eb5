"""Timing steps against each other: alternating, so that load on the machine hits all of them, and by ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], None]


def finish(device: str | torch.device) -> None:
    """Wait until a device has done its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def alternate(steps: Mapping[str, Step], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Time steps in turn.

    Args:
        steps: functions that return once the device is done.
        rounds: timed calls of each.
        warmup: rounds before that are not timed.

    Returns:
        Seconds of each call, by name.

    Example:
        >>> calls = []
        >>> times = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=1)
        >>> calls, len(times["a"])
        (['a', 'b', 'a', 'b'], 1)
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], numerator: str, denominator: str) -> float:
    """Median of the ratios of two steps' times within rounds.

    Example:
        >>> ratio({"a": [2.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}, "a", "b")
        2.0
    """
    pairs = zip(seconds[numerator], seconds[denominator], strict=True)
    return statistics.median(first / second for first, second in pairs)


def count_operations(step: Step) -> int:
    """Floating-point operations of a step's matrix products, convolutions and attention, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def peak_memory(step: Step, device: str) -> float:
    """Peak memory of a CUDA device during a step in GiB, what other steps keep included."""
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) / 2**30


def matrix_rate(device: str, size: int, precision: torch.dtype = torch.bfloat16, seconds: float = 1.0) -> float:
    """Measured rate of square matrix products in TFLOP/s.

    Args:
        device: where.
        size: rows and columns.
        precision: of the matrices.
        seconds: how long to measure.

    Returns:
        The rate of the median of the blocks of products.
    """
    options: dict[str, Any] = {"device": device, "dtype": precision}
    first, second = (torch.randn(size, size, **options) for _ in range(2))
    result = torch.empty(size, size, **options)
    blocks: list[float] = []
    started = time.perf_counter()
    while len(blocks) < 3 or time.perf_counter() - started < seconds:
        finish(device)
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(first, second, out=result)
        finish(device)
        blocks.append((time.perf_counter() - start) / 10)
    return 2 * size**3 / statistics.median(blocks[1:]) / 1e12
