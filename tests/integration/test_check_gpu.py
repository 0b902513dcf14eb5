"""The check of a machine's GPU runs without one, names what it left out, and finds what it should find."""

import doctest
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch

import cases_io
import check_gpu
from gpu_checks import correctness, draws, report, speed
from gpu_checks.models import Step
from gpu_checks.session import (
    CUT,
    FAILED,
    MEASURED,
    MISSED,
    NOT_APPLICABLE,
    PARTS,
    PASSED,
    Finding,
    NotApplicableError,
    OutOfTimeError,
    Result,
    Session,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session("speed", "cpu", True, tmp_path, time.monotonic() + 600, quiet=True)


def test_the_same_code_runs_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["correctness", "waiting", "speed", "feeding"]
    words = ["--device", "cpu", "--tiny", "--one-process", "--minutes", "10", "--output", str(tmp_path)]
    assert check_gpu.main([*words, "--parts", *parts]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    found = {part: [result for result in content["results"] if result["part"] == part] for part in parts}
    assert all(found.values())
    assert {result["status"] for result in content["results"]} == {PASSED, MEASURED, NOT_APPLICABLE}
    assert content["machine"]["versions"]["torch"] == torch.__version__.split("+")[0]
    steps = next(result["values"] for result in found["speed"] if "ViT-B" in result["name"])
    assert {"transformers", "pixel", "sigma_mlp", "sigma_dino", "smile_clip", "smile_cached"} == set(steps)
    assert all(step["operations"] > 0 and step["clips/s"] > 0 for step in steps.values())
    # Both encoders do the same work, up to what torchvision computes for its class.
    pair = next(result["values"] for result in found["speed"] if "r3d_18" in result["name"])
    assert pair["tubelets"]["operations"] == pytest.approx(pair["torchvision"]["operations"], rel=0.02)
    page = (tmp_path / "report.html").read_text()
    assert all(result["name"] in page for result in found["feeding"])
    assert "targets are for GPUs" in capsys.readouterr().out


def test_models_are_placed_and_never_wait_on_a_device_in_memory(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/check_gpu.py", "--device", "cpu", "--tiny", "--parts", "placement"]
    ended = subprocess.run([*words, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = report.read_results(tmp_path / "placement.json")
    assert {result.status for result in results} == {PASSED}
    assert len(results) >= 7


# The device has to be registered before this process computes a gradient, and stays registered.
SECOND_DEVICE = """
import torch
from gpu_checks.second_device import DEVICE_NAME, WrongDeviceError, second_device

def waits(function):
    record.waits.clear()
    function()
    return list(record.waits)

with second_device() as record:
    layer, inputs = torch.nn.Linear(4, 3).to(DEVICE_NAME), torch.randn(2, 4).to(DEVICE_NAME)
    expected = torch.nn.functional.linear(inputs.cpu(), layer.weight.cpu(), layer.bias.cpu())
    torch.testing.assert_close(layer(inputs).cpu(), expected)
    assert waits(lambda: layer(inputs).sum().backward()) == []
    assert layer.weight.grad.device.type == DEVICE_NAME
    for wrong in (
        lambda: layer(torch.randn(2, 4)),
        lambda: inputs + torch.ones(4),
        lambda: torch.rand(2, device=DEVICE_NAME, generator=torch.Generator()),
    ):
        try:
            wrong()
        except WrongDeviceError:
            continue
        raise AssertionError("not noticed")
    for waiting in (
        lambda: inputs.sum().item(),
        lambda: bool((inputs > 0).any()),
        lambda: inputs[inputs > 0],
        lambda: inputs.nonzero(),
        lambda: inputs.cpu(),
        lambda: inputs.tolist(),
        lambda: torch.tensor([1.0], device=DEVICE_NAME),
        lambda: torch.ones(2).to(DEVICE_NAME),
        lambda: inputs[:, [0, 1]],
    ):
        assert len(waits(waiting)) == 1, waiting
    assert waits(lambda: torch.ones(2).to(DEVICE_NAME, non_blocking=True)) == []
    assert waits(lambda: inputs.add_(1).mul(2) @ inputs.T) == []
    assert float(inputs.view(-1)[0]) == float(inputs.cpu()[0, 0])
"""


def test_the_device_in_memory_notices_wrong_placement_and_waits() -> None:
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'scripts'}"}
    subprocess.run([sys.executable, "-c", SECOND_DEVICE], env=environment, check=True)


@pytest.mark.slow
def test_golden_cases_on_the_device_in_memory(session: Session) -> None:
    assert correctness.golden(session, "second").values["cases"] > 80


@pytest.mark.slow
def test_scale_and_learning_run_without_a_gpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--minutes", "20", "--output", str(tmp_path), "--parts", "scale", "learning"]
    assert check_gpu.main(words) == 0
    results = report.read_results(tmp_path / "scale.json")
    assert sum(result.status == PASSED for result in results) == 6


def test_every_part_is_a_module_that_runs() -> None:
    assert all(callable(importlib.import_module(f"gpu_checks.{part}").run) for part in PARTS)


@pytest.mark.parametrize(
    "module", ["correctness", "feeding", "learning", "models", "report", "session", "speed", "timing"]
)
def test_examples(module: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(f"gpu_checks.{module}"))
    assert failures == 0


def raises(error: Exception) -> None:
    raise error


def test_a_failed_check_stops_nothing_and_each_end_has_its_status(session: Session) -> None:
    session.check("fails", lambda: raises(ValueError("seven is not eight")))
    session.check("misses", lambda: Finding("1.1 times", met=False))
    session.check("measures", lambda: Finding("3 s", met=None))
    session.check("means nothing", lambda: raises(NotApplicableError("one card")))
    session.check("stops early", lambda: raises(OutOfTimeError("half of it")))
    session.check("never starts", lambda: Finding(""), needs=3600)
    session.check("passes", lambda: Finding("all well"))
    assert [each.status for each in session.results] == [FAILED, MISSED, MEASURED, NOT_APPLICABLE, CUT, CUT, PASSED]
    assert "seven is not eight" in session.results[0].detail
    assert "--minutes" in session.results[5].detail
    # What a crash later on would leave behind.
    assert report.read_results(session.output / "speed.json") == session.results
    text = report.text_report({"device": "cpu", "versions": {}}, session.results, 1.0)
    assert "raise error" in text
    assert "1 passed, 1 failed, 1 below target, 2 cut, 1 measured, 1 not applicable" in text


@pytest.mark.parametrize(
    ("statuses", "code"),
    [([PASSED, MEASURED, NOT_APPLICABLE], 0), ([PASSED, FAILED, CUT], 1), ([MISSED], 1), ([PASSED, CUT], 3)],
)
def test_the_exit_code_says_whether_all_passed(statuses: list[str], code: int) -> None:
    assert report.exit_code([Result("speed", str(n), status, "", 0.0) for n, status in enumerate(statuses)]) == code


def test_a_process_that_dies_is_reported_with_what_it_had_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text(
        "import json, os, sys\n"
        "folder = sys.argv[sys.argv.index('--output') + 1]\n"
        "result = dict(part='speed', name='first', status='passed', detail='', seconds=1.0, values={})\n"
        "json.dump([result], open(folder + '/speed.json', 'w'))\n"
        "os._exit(7)\n"
    )
    monkeypatch.setattr(check_gpu, "__file__", str(dying))
    first, process = check_gpu.run_apart("speed", "cpu", True, tmp_path, 60)
    assert (first.name, process.status) == ("first", FAILED)
    assert "code 7" in process.detail


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "hanging.py"
    hanging.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(check_gpu, "__file__", str(hanging))
    monkeypatch.setattr(check_gpu, "GRACE", 0.5)
    (process,) = check_gpu.run_apart("speed", "cpu", True, tmp_path, 0.1)
    assert (process.status, "hung" in process.detail) == (FAILED, True)


def test_parts_that_get_no_time_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_gpu, "run_apart", lambda *_: time.sleep(0.2) or [])
    arguments = check_gpu.parse(["--minutes", "0.003", "--parts", "scale", "speed", "--output", str(tmp_path)])
    assert [(each.part, each.status) for each in check_gpu.run_parts(arguments)] == [("scale", CUT)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_gpu.main(["--output", str(tmp_path)]) == 2
    assert "--device cpu --tiny" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def speeds(compiled: bool, *names: str) -> speed.Speeds:
    return speed.Speeds("ViT-B", SimpleNamespace(), names, "pixel", compiled, 64)


def measured(over: float, share: float = 0.5) -> dict[str, float]:
    return {"time over own": over, "clips/s": 100.0, "share of matrix rate": share}


@pytest.mark.parametrize(
    ("compiled", "values", "met"),
    [
        (False, {"transformers": measured(1.31), "pixel": measured(1.0)}, True),
        (False, {"transformers": measured(1.29), "pixel": measured(1.0)}, False),
        (True, {"transformers": measured(1.0), "pixel": measured(1.0, 0.36)}, True),
        (True, {"transformers": measured(1.2), "pixel": measured(1.0, 0.34)}, False),
        (True, {"transformers": measured(0.99), "pixel": measured(1.0, 0.4)}, False),
        (False, {"pixel": measured(1.0), "sigma_mlp": measured(1.25)}, True),
        (False, {"pixel": measured(1.0), "sigma_mlp": measured(1.26)}, False),
        (False, {"pixel": measured(1.0), "smile_cached": measured(1.11)}, False),
        (False, {"pixel": measured(1.0), "smile_clip": measured(9.0)}, None),
    ],
)
def test_targets_are_judged_on_gpus_alone(
    session: Session, compiled: bool, values: dict[str, dict[str, float]], met: bool | None
) -> None:
    compared = speeds(compiled, *values)
    assert speed.judge(session, compared, 64, values).met is None
    session.device = "cuda"
    assert speed.judge(session, compared, 64, values).met is met


def test_golden_cases_that_fail_or_are_missing_are_failures() -> None:
    failed = '<testsuites><testcase classname="c" name="n"><failure message="off by 3"/></testcase></testsuites>'
    with pytest.raises(AssertionError, match="c n: off by 3"):
        correctness.read_golden(ElementTree.fromstring(failed))
    with pytest.raises(AssertionError, match="0 of 0"):
        correctness.read_golden(ElementTree.fromstring("<testsuites/>"))


def test_numbers_that_are_wrong_are_noticed() -> None:
    def step(loss: float, *gradient: float) -> Step:
        return Step(torch.tensor(loss), {"logits": torch.tensor([loss])}, torch.tensor(gradient))

    reference = step(1.0, 1.0, 2.0)
    assert max(correctness._compare(step(1.0, 1.0, 2.0), reference, "float32").values()) == 0
    with pytest.raises(AssertionError, match="gradient"):
        correctness._compare(step(1.0, 2.0, 1.0), reference, "bfloat16")
    with pytest.raises(FloatingPointError, match=r"50.0% of gradient"):
        correctness._compare(step(1.0, 1.0, float("nan")), reference, "bfloat16")


def test_draws_of_another_distribution_are_noticed() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2000, 50, dtype=torch.float64, generator=generator) for _ in range(2))
    assert draws._same_means(first, second, "draws") < 6
    with pytest.raises(AssertionError, match="draws: means differ"):
        draws._same_means(first, second * 1.2, "draws")
    with pytest.raises(AssertionError, match="inf"):
        draws._same_means(torch.ones(9, 2), torch.zeros(9, 2), "constants")


@pytest.mark.parametrize("name", ["gpu", "cuda:77"])
def test_golden_cases_refuse_a_device_that_is_not_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUBELETS_TEST_DEVICE", name)
    with pytest.raises(ValueError, match=f"TUBELETS_TEST_DEVICE is '{name}'"):
        cases_io.golden_device()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("placement", "learning")])
def test_on_a_gpu(part: str, tmp_path: Path) -> None:
    results = check_gpu.run_apart(part, "cuda", True, tmp_path, 600)
    assert results
    assert {result.status for result in results} <= {PASSED, MEASURED, MISSED, NOT_APPLICABLE}
