"""Split an endless loader into epochs, as a Trainer expects."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from tubelets.data.stream.loader import ClipLoader
from tubelets.training.finetuning_arguments import FinetuningArguments


class EpochBatches:
    """Epochs of an endless loader: counted, on the device, augmented.

    Args:
        loader: endless batches of this process.
        prepare: turns a batch into the model's arguments, see `TaskData.prepare`.
        samples: samples per epoch, over all processes.
        args: batch sizes.

    Raises:
        ValueError: if an epoch has fewer samples than a step.
    """

    def __init__(
        self,
        loader: ClipLoader,
        prepare: Callable[[dict[str, Any]], dict[str, Tensor]],
        samples: int,
        args: FinetuningArguments,
    ) -> None:
        self.loader, self._prepare, self.samples = loader, prepare, samples
        self.steps_per_epoch = samples // args.videos_per_step
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"an epoch has {samples} videos, fewer than the {args.videos_per_step} of a step; use smaller batches"
            )
        self._length = self.steps_per_epoch * args.gradient_accumulation_steps
        self._delivered = 0
        self._batches: Iterator[dict[str, Any]] | None = None

    def __len__(self) -> int:
        """Batches of this process per epoch; the incomplete last step is dropped."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The rest of the epoch."""
        if self._batches is None:
            self._batches = iter(self.loader)
        for _ in range(self._length - self._delivered % self._length):
            batch = next(self._batches)
            self._delivered += 1
            yield self._prepare(batch)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch, as JSON values."""
        return {"delivered": self._delivered, "length": self._length, "loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batch at which a state was taken; call it before iterating.

        Raises:
            ValueError: if an epoch had another length, or the loader refuses its part.
        """
        if state["length"] != self._length:
            raise ValueError(
                f"an epoch had {state['length']} batches and now has {self._length}; use the same data, batch sizes "
                "and processes, or start a new run"
            )
        self.loader.load_state_dict(state["loader"])
        self._delivered = state["delivered"]
