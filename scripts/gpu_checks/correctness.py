"""Correctness: golden cases, precisions, attention, compilation, and random draws on the device."""

import functools
import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_checks.draws import check_masks, check_motion, check_rendering
from gpu_checks.models import CASES, ROOT, Step, case_name, difference, tiny_step
from gpu_checks.session import Finding, NotApplicableError, OutOfTimeError, Session

# One pretraining, one classifier, one encoder; one of frames, one convolutional, one of sounds.
_TINY_CASES = [
    ("sigma", "AutoModelForPreTraining"),
    ("resnet3d", "AutoModelForVideoClassification"),
    ("structured_noise_audio", "AutoModel"),
]
# Largest differences from float32 on the CPU, see `difference`. Half precision keeps 3 or 4 digits, and a value near
# zero that changes its sign in front of a ReLU changes the gradient by per cents, also between devices.
_LIMITS = {
    "float32": {"loss": 1e-4, "outputs": 1e-3, "gradient": 0.05},
    "bfloat16": {"loss": 0.02, "outputs": 0.05, "gradient": 0.15},
    "float16": {"loss": 0.02, "outputs": 0.05, "gradient": 0.15},
}


def run(session: Session) -> None:
    """Check what the device computes against numbers of the CPU and of the official code."""
    session.check("golden cases in float32", functools.partial(_golden, session), needs=20)
    cases = _TINY_CASES if session.tiny else CASES
    for case in cases:
        session.check(f"precision: {case_name(*case)}", functools.partial(_precision, session, *case), needs=1)
    for case in _with_attention(cases):
        session.check(f"attention: {case_name(*case)}", functools.partial(_attention, session, *case), needs=1)
    session.check("masks are distributed as on the CPU", functools.partial(check_masks, session), needs=5)
    session.check("motion is distributed as on the CPU", functools.partial(check_motion, session), needs=5)
    session.check("objects are rendered as on the CPU", functools.partial(check_rendering, session), needs=2)
    for case in sorted(cases, key=lambda each: each[1] != "AutoModelForPreTraining"):
        if case[1] != "AutoModel":  # encoders are inside of these
            session.check(f"compiled: {case_name(*case)}", functools.partial(_compiled, session, *case), needs=25)


def strict_float32() -> None:
    """Compute float32 with all its digits; cuDNN rounds convolutions to TF32 by default."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _golden(session: Session) -> Finding:
    if session.tiny:
        raise NotApplicableError("they have one size; pytest tests/golden runs them on a CPU")
    if importlib.util.find_spec("pytest") is None:
        raise NotApplicableError("pytest is not installed; pip install -e .[dev]")
    return golden(session, session.device)


def golden(session: Session, device: str) -> Finding:
    """Run the golden tests on a device.

    Args:
        session: gives the time and the folder.
        device: value of `TUBELETS_TEST_DEVICE`.

    Returns:
        How many cases agree.

    Raises:
        AssertionError: if one does not.
        OutOfTimeError: if they do not end in time.
    """
    report = session.output / f"golden-{device.replace(':', '-')}.xml"
    report.unlink(missing_ok=True)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "tests/golden",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    environment = {**os.environ, "TUBELETS_TEST_DEVICE": device, "PYTHONPATH": str(ROOT / "src")}
    limit = max(session.left(), 1.0)
    try:
        ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise OutOfTimeError(f"the golden tests did not end within {limit:.0f} s; raise --minutes") from None
    if not report.exists():
        raise AssertionError(f"pytest wrote no report: {(ended.stdout + ended.stderr)[-2000:]}")
    return read_golden(ElementTree.parse(report).getroot())


def read_golden(report: ElementTree.Element) -> Finding:
    """Count the cases of a junit report.

    Args:
        report: its root.

    Raises:
        AssertionError: if a case failed, or none ran.

    Example:
        >>> read_golden(ElementTree.fromstring('<testsuites><testcase name="sinkhorn"/></testsuites>')).detail
        '1 cases agree with the official code'
    """
    cases = list(report.iter("testcase"))
    wrong = [(case, problem) for case in cases for problem in case if problem.tag in ("failure", "error")]
    if wrong or not cases:
        reasons = [f"{case.get('classname')} {case.get('name')}: {problem.get('message')}" for case, problem in wrong]
        raise AssertionError(f"{len(wrong)} of {len(cases)} golden cases disagree:\n" + "\n".join(reasons)[:3000])
    return Finding(f"{len(cases)} cases agree with the official code", {"cases": len(cases)})


def _compare(found: Step, reference: Step, precision: str) -> dict[str, float]:
    found.check_finite()
    values = difference(found, reference)
    over = {name: value for name, value in values.items() if not value <= _LIMITS[precision][name]}
    if over:
        raise AssertionError(f"{precision} differs from the reference by {over}, allowed are {_LIMITS[precision]}")
    return values


def _autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, precision))


def _precision(session: Session, model_type: str, auto_class: str) -> Finding:
    strict_float32()
    reference = tiny_step(model_type, auto_class, "cpu", nullcontext())
    values = {}
    for precision in _LIMITS:
        step = tiny_step(model_type, auto_class, session.device, _autocast(session.device, precision))
        values[precision] = _compare(step, reference, precision)
    worst = {name: max(each.values()) for name, each in values.items()}
    return Finding(f"largest relative difference {', '.join(f'{n} {v:.0e}' for n, v in worst.items())}", values)


def _with_attention(cases: list[tuple[str, str]]) -> list[tuple[str, str]]:
    transformers = ("tubelets_videomae", "sigma", "smile", "structured_noise")
    return [case for case in cases if case[0].startswith(transformers)]


def _attention(session: Session, model_type: str, auto_class: str) -> Finding:
    strict_float32()

    def step(implementation: str, precision: str, *backends: SDPBackend) -> Step:
        def change(model: Any) -> Any:
            model.set_attn_implementation(implementation)
            return model

        with ExitStack() as stack:
            if backends:
                stack.enter_context(sdpa_kernel(list(backends)))
            return tiny_step(model_type, auto_class, session.device, _autocast(session.device, precision), change)

    eager = step("eager", "float32")
    values = {"sdpa": _compare(step("sdpa", "float32"), eager, "float32")}
    # The kernel of flash attention computes in half precision on GPUs, the CPU's also in float32.
    try:
        flash, kernel = step("sdpa", "bfloat16", SDPBackend.FLASH_ATTENTION), "flash"
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        # Attention with a mask, which flash attention does not accept on GPUs.
        flash, kernel = step("sdpa", "bfloat16", SDPBackend.EFFICIENT_ATTENTION), "memory-efficient (flash refused)"
    values[kernel] = _compare(flash, eager, "bfloat16")
    if session.on_gpu and importlib.util.find_spec("flash_attn") is not None:
        values["flash_attn"] = _compare(step("flash_attention_2", "bfloat16"), eager, "bfloat16")
    worst = ", ".join(f"{name} {max(each.values()):.0e}" for name, each in values.items())
    return Finding(f"largest relative difference from eager attention: {worst}", values)


def _compiled(session: Session, model_type: str, auto_class: str) -> Finding:
    strict_float32()
    # Inductor takes half a minute a model; graph breaks show without it.
    backend = "eager" if session.tiny else "inductor"
    change: Callable[[Any], Any] = functools.partial(torch.compile, fullgraph=True, backend=backend)
    torch._dynamo.reset()
    try:
        found = tiny_step(model_type, auto_class, session.device, nullcontext(), change)
    finally:
        torch._dynamo.reset()
    values = _compare(found, tiny_step(model_type, auto_class, session.device, nullcontext()), "float32")
    return Finding(f"no graph break with {backend}; largest relative difference {max(values.values()):.0e}", values)
