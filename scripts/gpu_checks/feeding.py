"""Feeding: clips per second of the loader on this machine's cores, against what a training step eats."""

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from benchmark_loading import write_videos
from gpu_checks.session import Finding, OutOfTimeError, Session
from gpu_checks.speed import pixel_speed
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records
from tubelets.training.pretraining import build_loader
from tubelets.training.recipe import DataSection, ModelSection, OptimizationSection, Recipe, RunSection

_CLIPS_PER_VIDEO = (1, 4)


def run(session: Session) -> None:
    """Measure the loader, then the steps, and say which one waits."""
    rates: dict[int, float] = {}
    shards = session.output / "feeding"
    session.check("shards of 256 pixels", functools.partial(_build, session, shards), needs=15)
    for clips in _CLIPS_PER_VIDEO:
        name = f"loader, {clips} clip{'s' if clips > 1 else ''} a decode"
        session.check(name, functools.partial(_load, session, shards, clips, rates), needs=8)
    for size in ("base",) if session.tiny else ("base", "small"):
        check = functools.partial(_compare, session, size, rates)
        session.check(f"loader against a step of ViT-{size[0].upper()}", check, needs=8)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _build(session: Session, shards: Path) -> Finding:
    count, frames, height, width = (4, 24, 48, 64) if session.tiny else (16, 300, 256, 340)
    if not shards.exists():
        videos = session.output / "videos"
        videos.mkdir(exist_ok=True)
        write_videos(videos, count, frames, height, width)
        build_shards(read_records(videos), shards, clips_per_shard=1, progress=False)
    return Finding(f"{count} videos of {frames} frames, {height} x {width} pixels, H.264", met=None)


def _recipe(session: Session, shards: Path, clips: int) -> Recipe:
    batch, workers = (4, 1) if session.tiny else (32, min(cores(), 16))
    fields = {"image_size": 32, "num_frames": 4, "patch_size": 16} if session.tiny else {}
    return Recipe(
        ModelSection("tubelets_videomae", fields),
        DataSection(str(shards), stride=4, clips_per_video=clips, num_workers=workers, split_by="shards"),
        OptimizationSection(global_batch_size=batch),
        RunSection(output_dir="", batch_size=batch),
    )


def _load(session: Session, shards: Path, clips: int, rates: dict[int, float]) -> Finding:
    recipe = _recipe(session, shards, clips)
    batches = iter(build_loader(recipe, recipe.model.build_config(), Accelerator(cpu=not session.on_gpu)))
    workers = recipe.data.num_workers
    for _ in range(1 if session.tiny else 2 * workers):  # workers start, and deliver what they had prepared
        next(batches)
    count, started = 0, time.perf_counter()
    span = 0.5 if session.tiny else 5.0
    while time.perf_counter() - started < span:
        count += len(next(batches)["pixel_values"])
    rates[clips] = count / (time.perf_counter() - started)
    detail = f"{rates[clips]:.1f} clips/s with {workers} workers, {rates[clips] / workers:.1f} a worker"
    return Finding(detail, {"clips/s": rates[clips], "workers": workers, "clips a decode": clips}, met=None)


def _compare(session: Session, size: str, rates: Mapping[int, float]) -> Finding:
    if not rates:
        raise OutOfTimeError("the loader was not measured")
    appetite = pixel_speed(session, size)
    detail = advice(appetite, rates, cores())
    values = {"step, clips/s": appetite, **{f"loader, {clips} a decode": rate for clips, rate in rates.items()}}
    return Finding(detail, values, met=None)


def advice(appetite: float, rates: Mapping[int, float], workers: int) -> str:
    """Which of the two is the bottleneck, and what to do.

    Args:
        appetite: clips per second of the step of one GPU.
        rates: clips per second of the loader, by clips a decode.
        workers: cores of the machine.

    Example:
        >>> advice(100.0, {1: 150.0, 4: 300.0}, 8)
        'the step eats 100.0 clips/s, the loader gives 150.0: the GPU is the bottleneck'
        >>> advice(400.0, {1: 150.0, 4: 500.0}, 8)[:102]
        'the step eats 400.0 clips/s, the loader gives 150.0: the loader is the bottleneck; clips_per_video=4 g'
    """
    slowest = min(rates)
    words = f"the step eats {appetite:.1f} clips/s, the loader gives {rates[slowest]:.1f}"
    if rates[slowest] >= appetite:
        return f"{words}: the GPU is the bottleneck"
    words += ": the loader is the bottleneck"
    enough = [clips for clips, rate in rates.items() if rate >= appetite]
    most = max(rates)
    if enough:
        return f"{words}; clips_per_video={min(enough)} gives {rates[min(enough)]:.1f} and is enough"
    needed = appetite / rates[most] * workers
    return (
        f"{words}; clips_per_video={most} gives {rates[most]:.1f}; make the shards smaller (tubelets shards "
        f"--short-side, --keyframe-interval), or use about {needed:.0f} cores for this GPU at {most} clips a decode"
    )
