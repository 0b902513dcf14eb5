"""Does the package work on this machine's GPU, and is it fast there? One command from a clone.

It prints a report that a bug report can hold and writes `report.json`, `report.txt` and `report.html` to `--output`.
The parts share `--minutes`; what does not fit is named as cut. Each part runs in a process of its own, so that one that
crashes or hangs does not stop the others. docs/gpu.md says what each part checks.

The exit code is 0 if everything that applies passed, 1 if something failed or missed its target, 2 for a wrong command
line, 3 if nothing failed but work was cut.

Examples:
  python scripts/check_gpu.py
  python scripts/check_gpu.py --parts correctness waiting speed --minutes 6
  python scripts/check_gpu.py --parts learning --minutes 40
  python scripts/check_gpu.py --device cpu --tiny   # the same code without a GPU: shows that it runs, nothing else
"""

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_checks.report import describe_machine, exit_code, read_results, write_report
from gpu_checks.session import CUT, FAILED, PARTS, Result, Session, line

ROOT = Path(__file__).resolve().parent.parent
# Seconds for a part to notice that its time is over: a check that has begun is not interrupted before.
GRACE = 60.0


def run_part(part: str, device: str, tiny: bool, output: Path, seconds: float) -> list[Result]:
    """Run a part in this process.

    Args:
        part: a name in `PARTS`.
        device: `cpu` or a CUDA device.
        tiny: use sizes that only show that the part runs.
        output: folder for results.
        seconds: its time.

    Returns:
        Its results.
    """
    session = Session(part, device, tiny, output, time.monotonic() + seconds)
    try:
        importlib.import_module(f"gpu_checks.{part}").run(session)
    except Exception:
        session.fail("between checks")
    return session.results


def run_apart(part: str, device: str, tiny: bool, output: Path, seconds: float) -> list[Result]:
    """Run a part in a process of its own, and end it if it hangs; arguments and result as for `run_part`."""
    words = [sys.executable, str(Path(__file__).resolve()), "--worker", "--parts", part, "--device", device]
    words += ["--minutes", str(seconds / 60), "--output", str(output), *(["--tiny"] if tiny else [])]
    started = time.monotonic()
    # A new process group, so that what the part started ends with it.
    process = subprocess.Popen(words, start_new_session=True)
    ended = "its process ended with code {code} before the part was done"
    try:
        code = process.wait(seconds + GRACE)
        status, detail = FAILED, ended.format(code=code)
    except subprocess.TimeoutExpired:
        code, status = None, FAILED
        detail = f"hung for {GRACE:.0f} s after its time of {seconds:.0f} s, and was ended"
    finally:
        _end(process)
    results = read_results(output / f"{part}.json")
    if code != 0:
        results.append(Result(part, "process", status, detail, time.monotonic() - started))
        print(line(results[-1]), flush=True)
    return results


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_parts(arguments: argparse.Namespace) -> list[Result]:
    """Run the parts in order; a part's unused time goes to those after it."""
    deadline = time.monotonic() + 60 * arguments.minutes
    chosen = [part for part in PARTS if part in arguments.parts]
    results: list[Result] = []
    for number, part in enumerate(chosen):
        (arguments.output / f"{part}.json").unlink(missing_ok=True)
        left = deadline - time.monotonic()
        if left <= 0:
            results.append(Result(part, "all of it", CUT, "no time was left; raise --minutes", 0.0))
            continue
        share = left * PARTS[part] / sum(PARTS[other] for other in chosen[number:])
        # A process cannot change its devices once it has computed gradients.
        run = run_part if arguments.one_process and part != "placement" else run_apart
        results += run(part, arguments.device, arguments.tiny, arguments.output, share)
    return results


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all parts together (default: 10)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that everything runs, and nothing else")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "gpu", help="folder for the report")
    parser.add_argument(
        "--one-process",
        action="store_true",
        help="run all parts but placement in this process: starts faster, and a crash ends all",
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.minutes <= 0:
        parser.error(f"--minutes must be above 0, got {arguments.minutes}")
    arguments.output = arguments.output.resolve()
    return arguments


def missing_device(device: str) -> str | None:
    """Why a device cannot be used, or None."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        return (
            f"--device is {device}, and this PyTorch ({torch.__version__}) sees no CUDA device; install a driver and a "
            "PyTorch for it, or use --device cpu --tiny"
        )
    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        return f"--device is {device!r}, which cannot be used: {error}; use cuda, cuda:N or cpu"
    return None


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = parse(words)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.worker:
        run_part(arguments.parts[0], arguments.device, arguments.tiny, arguments.output, 60 * arguments.minutes)
        return 0
    if (reason := missing_device(arguments.device)) is not None:
        print(f"check_gpu: {reason}", file=sys.stderr)
        return 2
    started = time.monotonic()
    machine = describe_machine(arguments.device)
    results = run_parts(arguments)
    text = write_report(arguments.output, machine, results, (time.monotonic() - started) / 60)
    print(f"\n{text}\nwrote report.json, report.txt and report.html to {arguments.output}")
    return exit_code(results)


if __name__ == "__main__":
    sys.exit(main())
