"""A part's run: its device, its share of the time, and the results of its checks."""

import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, MISSED, CUT = "passed", "failed", "below target", "cut"
MEASURED, NOT_APPLICABLE = "measured", "not applicable"

PARTS: dict[str, float] = {
    "correctness": 3.0,
    "waiting": 0.7,
    "speed": 3.0,
    "feeding": 0.8,
    "scale": 1.5,
    "learning": 2.5,
    "placement": 0.5,
}
"""The parts in their order, and their shares of the time."""


class NotApplicableError(Exception):
    """Raised by a check that means nothing on this machine; the message says why."""


class OutOfTimeError(Exception):
    """Raised by a check that stops early; the message says what was left out."""


@dataclass
class Finding:
    """What a check found.

    Attributes:
        detail: one line for the report.
        values: numbers behind it, as JSON values.
        met: whether a target was met; None if the check has none, and is then only measured.
    """

    detail: str
    values: dict[str, Any] = field(default_factory=dict)
    met: bool | None = True


@dataclass
class Result:
    """A line of the report; `status` is one of the constants of this module."""

    part: str
    name: str
    status: str
    detail: str
    seconds: float
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Session:
    """Collects the results of a part.

    Args:
        part: a name in `PARTS`.
        device: `cpu`, or a CUDA device.
        tiny: sizes at which the part only shows that it runs.
        output: folder for what the part writes.
        deadline: when the part's time is over, on the clock `time.monotonic`.
        quiet: do not print results.

    Attributes:
        results: what was found so far; also in `output/PART.json`, which grows with each check.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     session = Session("speed", "cpu", True, Path(folder), time.monotonic() + 60, quiet=True)
        ...     session.check("two and two", lambda: Finding("is four"))
        ...     session.check("one over zero", lambda: 1 / 0)
        ...     session.check("a week", lambda: Finding("of work"), needs=7 * 86400)
        ...     [result.status for result in session.results]
        ['passed', 'failed', 'cut']
    """

    part: str
    device: str
    tiny: bool
    output: Path
    deadline: float
    quiet: bool = False
    results: list[Result] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds that are left to the part."""
        return self.deadline - time.monotonic()

    def check(self, name: str, function: Callable[[], Finding], needs: float = 0.0) -> None:
        """Run a check and keep its result, whatever happens in it.

        Args:
            name: what is checked, unique within the part.
            function: returns what it found; any exception is a failure, `NotApplicableError` and `OutOfTimeError`
                excepted.
            needs: seconds that it takes on a GPU; it is cut if fewer are left.
        """
        started = time.monotonic()
        if self.left() < needs or self.left() <= 0:
            detail = f"needs about {needs:.0f} s, and {max(self.left(), 0):.0f} s were left; raise --minutes"
            self._add(Result(self.part, name, CUT, detail, 0.0))
            return
        values: dict[str, Any] = {}
        try:
            found = function()
            status, detail, values = _status(found), found.detail, found.values
        except NotApplicableError as reason:
            status, detail = NOT_APPLICABLE, str(reason)
        except OutOfTimeError as reason:
            status, detail = CUT, str(reason)
        except Exception:
            self.fail(name, time.monotonic() - started)
            return
        self._add(Result(self.part, name, status, detail, time.monotonic() - started, values))

    def fail(self, name: str, seconds: float = 0.0) -> None:
        """Keep the exception that is being handled as a failure of a check that took some seconds."""
        error = sys.exc_info()[1]
        detail = f"{type(error).__name__}: {error}"[:1000]
        self._add(Result(self.part, name, FAILED, detail, seconds, {"traceback": traceback.format_exc()[-6000:]}))

    def _add(self, result: Result) -> None:
        self.results.append(result)
        text = json.dumps([dataclasses.asdict(each) for each in self.results], indent=1)
        (self.output / f"{self.part}.json").write_text(text, encoding="utf-8")
        if not self.quiet:
            print(line(result), flush=True)


def _status(found: Finding) -> str:
    if found.met is None:
        return MEASURED
    return PASSED if found.met else MISSED


def line(result: Result) -> str:
    """A result as one line of text.

    Example:
        >>> line(Result("speed", "matrices", MEASURED, "700 TFLOP/s", 1.5))
        'measured        speed: matrices (1.5 s) - 700 TFLOP/s'
    """
    first = result.detail.strip().splitlines()[0] if result.detail.strip() else ""
    return f"{result.status:15} {result.part}: {result.name} ({result.seconds:.1f} s) - {first}"
