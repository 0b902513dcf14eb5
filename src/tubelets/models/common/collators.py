"""Collators in two parts: what is decided in a worker, and work on pixels that an accelerator can do instead."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any


class TwoPartCollator(ABC):
    """A collator whose work on pixels can run in a worker or on the model's device.

    Everything random is drawn in the first part, on the CPU, so that the seeds decide the same on every device; grey
    levels may differ where a device rounds differently. Called, it does both parts.
    """

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate items of a clip stream into the arguments of the pretraining model."""
        return self.finish(self.prepare(items))

    @abstractmethod
    def prepare(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack and draw, in a worker.

        Args:
            items: mappings with the tensors of a clip and `seed`, an integer.

        Returns:
            Tensors, plain values and records (`tubelets.motion.Movable`) that `finish` completes.
        """

    @abstractmethod
    def finish(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Change pixels or joints, on the device of the clips.

        Args:
            batch: result of `prepare`, its tensors on one device; the clips may be overwritten.

        Returns:
            The arguments of the pretraining model.
        """
