import os
import signal
from types import SimpleNamespace

import pytest
import torch

from tubelets.training.stopping import StopRequest

CPU = torch.device("cpu")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = StopRequest()
    stop.listen()
    try:
        assert not stop.agreed(1, 10, CPU)
        os.kill(os.getpid(), number)
        assert stop.agreed(1, 10, CPU), "a process alone does not wait for others"
    finally:
        stop.restore()
    assert signal.getsignal(number) is before


def test_a_trainer_saves_and_stops() -> None:
    args = SimpleNamespace(logging_steps=0, device=CPU)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    stop = StopRequest()
    stop.on_step_end(args, SimpleNamespace(global_step=3), control)
    assert not control.should_training_stop
    stop.received = True
    stop.on_step_end(args, SimpleNamespace(global_step=4), control)
    assert control.should_save
    assert control.should_training_stop
