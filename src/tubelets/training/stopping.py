"""Stop a run on a signal after finishing and saving the current step."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed
from transformers import TrainerCallback

from tubelets.data.stream.workers import STOP_SIGNALS


class StopRequest(TrainerCallback):
    """Remembers SIGTERM, SIGINT, SIGUSR1 and SIGUSR2; the pretraining loop asks `agreed`, a Trainer calls it.

    The step is finished and saved first. A further signal does not interrupt that; each prints a line that says so.

    `accelerate launch` and `torchrun` pass SIGTERM and SIGINT on to their processes, and are themselves ended by the
    user signals: send those to the processes, or give `torchrun` `--signals-to-handle` with all four. After SIGTERM
    they wait 30 seconds for a step and its checkpoint.

    Attributes:
        received: whether this process was asked to stop.
        stopped: whether all processes agreed to stop; the same in each of them.
    """

    def __init__(self) -> None:
        self.received = self.stopped = False
        self._previous: dict[signal.Signals, Any] = {}
        self._exchange: Callable[[], bool] | None = None

    def listen(self) -> None:
        """Handle the signals from now on; call it in the main thread."""
        self._previous = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}

    def restore(self) -> None:
        """Put back the handlers that were there before `listen`."""
        for name, handler in self._previous.items():
            signal.signal(name, handler)
        self._previous = {}

    def agreed(self, device: torch.device) -> bool:
        """Whether all processes stop after this step; call it on all of them, after each step.

        Several processes exchange their requests without waiting: those of a step are read after the next one, when
        the device has them. A process alone stops at once.

        Args:
            device: device of the exchange.

        Example:
            >>> StopRequest().agreed(torch.device("cpu"))
            False
        """
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            earlier, self._exchange = self._exchange, _exchange(self.received, device)
            self.stopped = earlier is not None and earlier()
        else:
            self.stopped = self.received
        return self.stopped

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen during training."""
        self.listen()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop listening."""
        self.restore()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop if asked to."""
        if self.agreed(args.device):
            control.should_save = control.should_training_stop = True

    def _receive(self, number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        text = f"{name}: the current step is finished and saved before the run stops"
        if self.received:
            text = f"{name} again: still finishing and saving the step; SIGKILL stops at once and loses it"
        self.received = True
        # Unlike print and logging, this can interrupt a print.
        os.write(2, f"\n{text}\n".encode())


def _exchange(received: bool, device: torch.device) -> Callable[[], bool]:
    """Start to collect the requests of all processes; the result waits for them."""
    flag = torch.full((), float(received), device=device)
    work: Any = distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, async_op=True)
    if device.type == "cpu":
        return lambda: work.wait() and _is_set(flag)
    work.wait()  # on an accelerator, its stream waits, and not the program
    copy = torch.empty((), pin_memory=True).copy_(flag, non_blocking=True)
    done = torch.Event(device)
    done.record()

    def result() -> bool:
        done.synchronize()
        return _is_set(copy)

    return result


def _is_set(flag: Tensor) -> bool:
    return bool(flag.item())
