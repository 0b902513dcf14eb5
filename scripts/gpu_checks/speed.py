"""Speed of training steps against transformers and torchvision, alternating in one process, by medians of ratios."""

import dataclasses
import functools
import gc
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmark_cnn import make_contrast_step
from benchmark_pretraining import WORDS, Workload, make_step
from gpu_checks.session import Finding, OutOfTimeError, Session
from gpu_checks.timing import Step, alternate, count_operations, matrix_rate, peak_memory, ratio

_TINY_FIELDS = {
    "image_size": 32, "patch_size": 16, "num_frames": 4, "tubelet_size": 2, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 64, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64,
}  # fmt: skip
_TINY_TEACHER = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1}
_VITS = ("transformers", "pixel", *WORDS)

# Names of steps, the ratio's limit and how it reads: speed-ups at least, costs at most.
_FASTER = {"transformers": 1.3, "torchvision": 1.2}
_FASTER_COMPILED = {"transformers": 1.0, "torchvision": 1.0}
_COSTS = {"sigma_mlp": 1.25, "smile_cached": 1.1}
_MATRIX_SHARE = 0.35


@dataclasses.dataclass
class Speeds:
    """What is compared: how steps are made, and what they are.

    Attributes:
        title: in words.
        make: makes a step from its name, the number of clips and whether it is compiled.
        names: the steps, the one of another library first.
        own: the step that is compared with it.
        compiled: whether the steps are compiled.
        clips: most masked clips, or pairs of clips, in a step.
    """

    title: str
    make: Callable[[str, int, bool], Step]
    names: tuple[str, ...]
    own: str
    compiled: bool
    clips: int


def run(session: Session) -> None:
    """Measure the steps; the most telling ones first, as time may be short."""
    rates: dict[str, float] = {}
    session.check("rate of matrix products", functools.partial(_matrix_rate, session, rates), needs=2)
    for speeds in _plan(session):
        needs = (45.0 * len(speeds.names) if speeds.compiled else 15.0) if session.on_gpu else 0.0
        session.check(speeds.title, functools.partial(measure, session, speeds, rates), needs=needs)


def _matrix_rate(session: Session, rates: dict[str, float]) -> Finding:
    size, precision = (256, torch.float32) if session.tiny else (8192, torch.bfloat16)
    rates["matrices"] = matrix_rate(session.device, size, precision, 0.1 if session.tiny else 1.0)
    name = str(precision).removeprefix("torch.")
    detail = f"{rates['matrices']:.3g} TFLOP/s for {size} x {size} in {name}"
    return Finding(detail, {"TFLOP/s": rates["matrices"], "size": size, "precision": name}, met=None)


def _vit(session: Session, size: str, compiled: bool, *names: str) -> Speeds:
    options: dict[str, Any] = {"precision": _precision(session), "device": session.device}

    def make(name: str, count: int, compiled: bool) -> Step:
        if session.tiny:
            teachers = {"clip": _TINY_TEACHER, "dino": _TINY_TEACHER, "mask_ratio": 0.5}
            return make_step(name, Workload(_TINY_FIELDS, count, **options, **teachers), compiled)
        return make_step(name, Workload.of_paper(size, count, **options), compiled)

    title = f"ViT-{size[0].upper()}{', compiled' if compiled else ''}: {', '.join(names)}"
    return Speeds(title, make, names, "pixel", compiled, 2 if session.tiny else 64)


def _cnn(session: Session, network: str, compiled: bool) -> Speeds:
    def make(name: str, count: int, compiled: bool) -> Step:
        shape = (count, 2, 16) if session.tiny else (count, 16, 112)
        theirs = name == "torchvision"
        return make_contrast_step(network, theirs, shape, session.device, _precision(session), compiled)

    title = f"Tubelet-Contrast with {network}{', compiled' if compiled else ''}"
    return Speeds(title, make, ("torchvision", "tubelets"), "tubelets", compiled, 2 if session.tiny else 64)


def _precision(session: Session) -> str:
    return "bf16" if session.on_gpu else "fp32"


def _plan(session: Session) -> list[Speeds]:
    if session.tiny:
        return [_vit(session, "base", False, *_VITS), _cnn(session, "r3d_18", False)]
    return [
        _vit(session, "base", False, *_VITS),
        _vit(session, "base", True, "transformers", "pixel"),
        _cnn(session, "r2plus1d_18", False),
        _vit(session, "small", False, *_VITS),
        _cnn(session, "r3d_18", False),
        _vit(session, "base", True, "pixel", "sigma_mlp", "smile_cached"),
        _vit(session, "small", True, "transformers", "pixel"),
        _cnn(session, "r2plus1d_18", True),
        _vit(session, "base", True, "pixel", "sigma_dino", "smile_clip"),
        _cnn(session, "r3d_18", True),
    ]


def measure(session: Session, speeds: Speeds, rates: Mapping[str, float]) -> Finding:
    """Time the steps of one comparison, at the largest number of clips that fits."""
    clips, values = time_steps(session, speeds)
    for step in values.values():
        step["TFLOP/s"] = step["operations"] / step["seconds"] / 1e12
        if "matrices" in rates:
            step["share of matrix rate"] = step["TFLOP/s"] / rates["matrices"]
    return judge(session, speeds, clips, values)


def pixel_speed(session: Session, size: str) -> float:
    """Clips per second of our pixel baseline, eager: what a loader has to deliver."""
    speeds = _vit(session, size, False, "pixel")
    return time_steps(session, speeds)[1]["pixel"]["clips/s"]


def time_steps(session: Session, speeds: Speeds) -> tuple[int, dict[str, dict[str, Any]]]:
    """Time steps at the largest number of clips that fits into memory.

    Returns:
        The number of clips, and of each step `seconds`, `clips/s`, `operations`, `time over own` and so on.
    """
    clips = speeds.clips
    while True:
        try:
            values = _measure(session, speeds, clips)
        except torch.OutOfMemoryError:
            if clips == 2:
                raise
            clips //= 2
        else:
            return clips, values
        finally:
            _free()


def _free() -> None:
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _measure(session: Session, speeds: Speeds, clips: int) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for name in speeds.names:  # alone, so that the memory is its own
        if session.left() <= 0:
            raise OutOfTimeError(f"no time was left before {name} was timed; raise --minutes")
        step = speeds.make(name, clips, False)
        values[name] = {"operations": count_operations(step)}
        if session.on_gpu:
            values[name]["peak GiB, eager"] = peak_memory(step, session.device)
        del step
        _free()
    steps = {name: speeds.make(name, clips, speeds.compiled) for name in speeds.names}
    rounds = 1 if session.tiny else 10
    seconds = alternate(steps, rounds, warmup=0 if session.tiny else 3)
    for name in speeds.names:
        median = statistics.median(seconds[name])
        values[name] |= {"seconds": median, "all seconds": seconds[name], "clips/s": clips / median}
        values[name]["time over own"] = ratio(seconds, name, speeds.own)
    return values


def judge(session: Session, speeds: Speeds, clips: int, values: dict[str, dict[str, Any]]) -> Finding:
    """Put numbers beside targets; targets are for GPUs.

    Args:
        session: the part's run.
        speeds: what was compared.
        clips: clips in a step.
        values: of each step `time over own`, `clips/s` and, if known, `share of matrix rate`.
    """
    words, met = [], []
    for name in speeds.names:
        over = values[name]["time over own"]
        if name in _FASTER:
            limit = (_FASTER_COMPILED if speeds.compiled else _FASTER)[name]
            words.append(f"{speeds.own} {over:.2f} times as fast as {name} (target {limit})")
            met.append(over >= limit)
        elif name in _COSTS:
            words.append(f"{WORDS[name]} {over:.2f} of the pixel step's time (target {_COSTS[name]})")
            met.append(over <= _COSTS[name])
        elif name != speeds.own:
            words.append(f"{WORDS[name]} {over:.2f} of the pixel step's time")
    own = values[speeds.own]
    share = own.get("share of matrix rate")
    if share is not None:
        target = speeds.compiled and "ViT-B" in speeds.title
        words.append(f"{share:.0%} of the matrix rate{f' (target {_MATRIX_SHARE:.0%})' if target else ''}")
        met += [share >= _MATRIX_SHARE] if target else []
    words.insert(0, f"{clips} clips, {own['clips/s']:.1f} clips/s")
    if not session.on_gpu:
        words.append("targets are for GPUs and are not applied")
    return Finding("; ".join(words), values, met=all(met) if session.on_gpu and met else None)
