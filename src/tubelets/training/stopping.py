"""Stop a run on a signal after finishing and saving the current step."""

import signal
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback


class StopRequest(TrainerCallback):
    """Remembers SIGTERM and SIGINT; the pretraining loop asks `agreed`, a Trainer calls it as a callback.

    Attributes:
        received: whether the process was asked to stop.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Handle the signals from now on."""
        self._previous = {name: signal.signal(name, self._receive) for name in (signal.SIGTERM, signal.SIGINT)}

    def restore(self) -> None:
        """Put back the handlers that were there before `listen`."""
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def agreed(self, step: int, every: int, device: torch.device) -> bool:
        """Whether all processes stop after this step; call it on all of them.

        Args:
            step: optimiser steps done.
            every: steps between exchanges among processes, which wait for the device.
            device: device of the exchange.
        """
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            if step % every:
                return False
            flag = torch.tensor(float(self.received), device=device)
            distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
            self.received = bool(flag.item())
        return self.received

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen during training."""
        self.listen()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop listening."""
        self.restore()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop if asked to."""
        if self.agreed(state.global_step, max(1, int(args.logging_steps)), args.device):
            control.should_save = control.should_training_stop = True

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True
