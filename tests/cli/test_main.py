"""The command `tubelets`, in this process and as a module."""

import json
import subprocess
import sys

import pytest
import torch

import tubelets
from tubelets.cli.main import main
from tubelets.models.common.auto import MODELS


def test_info_prints_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["tubelets"] == tubelets.__version__
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "pyav" in found["decoders"]
    assert set(found["models"]) == set(MODELS)
    main(["info"])
    text = capsys.readouterr().out
    assert all(f"{section}:" in text for section in found)


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "tubelets"]
    assert "info" in subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    unknown = subprocess.run([*command, "fly"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert "fly" in unknown.stderr
