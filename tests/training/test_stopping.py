import os
import signal
from types import SimpleNamespace

import pytest
import torch

from distributed import run_processes
from tubelets.training.stopping import STOP_SIGNALS, StopRequest

CPU = torch.device("cpu")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_remembered_and_handlers_are_put_back(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    stop = StopRequest()
    stop.listen()
    try:
        assert not stop.agreed(CPU)
        os.kill(os.getpid(), number)
        assert stop.agreed(CPU), "a process alone does not wait for others"
        os.kill(os.getpid(), number)
    finally:
        stop.restore()
    assert signal.getsignal(number) is before
    first, second = capfd.readouterr().err.split("\n\n")
    assert first.strip().startswith(f"{number.name}: the current step is finished and saved")
    assert second.startswith(f"{number.name} again: still finishing and saving")


def test_a_trainer_saves_and_stops() -> None:
    args = SimpleNamespace(device=CPU)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    stop = StopRequest()
    stop.on_step_end(args, SimpleNamespace(global_step=3), control)
    assert not control.should_training_stop
    stop.received = True
    stop.on_step_end(args, SimpleNamespace(global_step=4), control)
    assert control.should_save
    assert control.should_training_stop


def _steps_until_agreed(rank: int, world_size: int) -> list[bool]:
    stop = StopRequest()
    answers = []
    for step in range(5):
        stop.received = rank == 1 and step >= 1
        answers.append(stop.agreed(CPU))
    return answers


def test_processes_stop_one_step_after_one_was_asked() -> None:
    assert run_processes(_steps_until_agreed, 2) == [[False, False, True, True, True]] * 2
