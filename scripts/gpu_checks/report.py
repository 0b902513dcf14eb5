"""The report of all parts: text for a bug report, `report.json` and a page."""

import dataclasses
import html
import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_checks.session import CUT, FAILED, MEASURED, MISSED, NOT_APPLICABLE, PASSED, Result, line

_COLOURS = {
    PASSED: "#2e7d32", FAILED: "#c62828", MISSED: "#ef6c00", CUT: "#6d4c41", MEASURED: "#1565c0",
    NOT_APPLICABLE: "#757575",
}  # fmt: skip


def describe_machine(device: str) -> dict[str, Any]:
    """Card, driver and versions, as plain values.

    Args:
        device: `cpu` or a CUDA device.
    """
    import torch

    from tubelets.info import package_versions

    found: dict[str, Any] = {
        "device": device,
        "platform": platform.platform(),
        "cores": torch.get_num_threads(),
        "CUDA of PyTorch": torch.version.cuda or "none",
    }
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "cards": torch.cuda.device_count(),
            "memory": f"{card.total_memory / 2**30:.0f} GiB",
            "capability": f"{card.major}.{card.minor}",
            "driver": _driver(),
        }
    return found | {"versions": package_versions()}


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown: nvidia-smi is not on the path"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip().splitlines()[0] if asked.returncode == 0 else f"unknown: {asked.stderr.strip()[:200]}"


def exit_code(results: Sequence[Result]) -> int:
    """0 if everything that applies passed, 1 if something failed or missed its target, 3 if work was cut.

    Example:
        >>> exit_code([Result("speed", "matrices", PASSED, "", 0.0), Result("speed", "a step", CUT, "", 0.0)])
        3
    """
    found = {result.status for result in results}
    if found & {FAILED, MISSED}:
        return 1
    return 3 if CUT in found else 0


def summary(results: Sequence[Result]) -> str:
    """How many checks ended how.

    Example:
        >>> summary([Result("speed", "matrices", PASSED, "", 0.0), Result("speed", "a step", CUT, "", 0.0)])
        '1 passed, 1 cut'
    """
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in _COLOURS if counts[status])


def text_report(machine: Mapping[str, Any], results: Sequence[Result], minutes: float) -> str:
    """The report as text."""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items() if value != "not installed")
    lines = [f"{name}: {value}" for name, value in machine.items() if name != "versions"]
    lines += [f"versions: {versions}", f"took {minutes:.1f} minutes", "", *map(line, results), "", summary(results)]
    failures = [result for result in results if result.status == FAILED and "traceback" in result.values]
    for result in failures:
        lines += ["", f"{result.part}: {result.name}", result.values["traceback"].rstrip()]
    return "\n".join(lines) + "\n"


def page(machine: Mapping[str, Any], results: Sequence[Result], minutes: float) -> str:
    """The report as an HTML page."""
    rows = []
    for result in results:
        values = {name: value for name, value in result.values.items() if name != "traceback"}
        more = "".join(
            f"<details><summary>{title}</summary><pre>{html.escape(content)}</pre></details>"
            for title, content in (
                ("numbers", json.dumps(values, indent=1) if values else ""),
                ("traceback", result.values.get("traceback", "")),
            )
            if content
        )
        rows.append(
            f"<tr><td>{html.escape(result.part)}<td>{html.escape(result.name)}"
            f"<td style='color:{_COLOURS[result.status]};white-space:nowrap'><b>{result.status}</b>"
            f"<td>{html.escape(result.detail)}{more}<td style='text-align:right'>{result.seconds:.1f}"
        )
    facts = "".join(
        f"<li>{html.escape(str(name))}: {html.escape(str(value))}"
        for name, value in {**machine, **machine["versions"]}.items()
        if name != "versions"
    )
    return (
        "<!doctype html><meta charset='utf-8'><title>tubelets on this machine</title>"
        "<style>body{font-family:sans-serif;max-width:1200px;margin:auto}table{border-collapse:collapse;width:100%}"
        "td,th{border-bottom:1px solid #ddd;padding:4px;text-align:left;vertical-align:top}</style>"
        f"<h1>tubelets on {html.escape(str(machine.get('card', machine['device'])))}</h1>"
        f"<p>{html.escape(summary(results))}; {minutes:.1f} minutes.</p>"
        "<table><tr><th>part<th>check<th>result<th>what was found<th>s"
        f"{''.join(rows)}</table><h2>Machine</h2><ul>{facts}</ul>"
    )


def write_report(output: Path, machine: Mapping[str, Any], results: Sequence[Result], minutes: float) -> str:
    """Write `report.json`, `report.txt` and `report.html`; return the text."""
    content = {
        "machine": dict(machine),
        "minutes": minutes,
        "summary": summary(results),
        "results": [dataclasses.asdict(result) for result in results],
    }
    text = text_report(machine, results, minutes)
    (output / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (output / "report.txt").write_text(text, encoding="utf-8")
    (output / "report.html").write_text(page(machine, results, minutes), encoding="utf-8")
    return text


def read_results(path: Path) -> list[Result]:
    """The results that a part has written so far; none if it wrote none."""
    if not path.exists():
        return []
    return [Result(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
