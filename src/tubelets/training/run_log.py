"""Training logs: averaged loss terms, speed and skipped videos, on the terminal, in a file and in trackers."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from tubelets.data.atomic import write_atomically

logger = logging.getLogger("tubelets.training")


def scalar_outputs(output: Mapping[str, Any]) -> dict[str, Tensor]:
    """The scalars of a `ModelOutput`, detached, on the model's device: the loss, its terms and other logged values."""
    return {name: value.detach() for name, value in output.items() if isinstance(value, Tensor) and value.ndim == 0}


class RunningMean:
    """Means of scalars that stay on the device until `reset`, so that a step never waits.

    Example:
        >>> mean = RunningMean()
        >>> for value in (1.0, 3.0):
        ...     mean.add({"loss": torch.tensor(value)})
        >>> mean.reset()
        {'loss': 2.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add one set of scalars."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value.float() if name in self._sums else value.float().clone()
        self._count += 1

    def reset(self, accelerator: Accelerator | None = None) -> dict[str, float]:
        """The means since the last call, over all processes if an accelerator is given; waits for the device."""
        if not self._sums:
            return {}
        names = list(self._sums)
        means = torch.stack([self._sums[name] for name in names]) / self._count
        if accelerator is not None:
            means = accelerator.reduce(means, reduction="mean")
        self._sums, self._count = {}, 0
        return dict(zip(names, means.tolist(), strict=True))


class BatchProgress:
    """The batches of an accumulated step in the description of a progress bar, on a terminal only.

    A step of many batches can take minutes, in which the bar would stand still. Logs in files stay as they are.

    Args:
        bar: the bar of steps.
        batches: batches in a step.

    Example:
        >>> progress = BatchProgress(tqdm(total=2, desc="pretraining", disable=True), batches=8)
        >>> progress.batch()
        >>> progress.step()
    """

    def __init__(self, bar: tqdm, batches: int) -> None:
        self._bar, self._batches, self._done, self._shown = bar, batches, 0, 0.0
        self._description = "" if bar.disable else (bar.desc or "").removesuffix(": ")
        self._active = batches > 1 and not bar.disable and bar.fp.isatty()

    def batch(self) -> None:
        """Count a batch, and show it about once a second."""
        self._done += 1
        if self._active and time.monotonic() - self._shown > 1:
            self._shown = time.monotonic()
            named = f"{self._description}, " if self._description else ""
            self._bar.set_description_str(f"{named}batch {self._done}/{self._batches}")

    def step(self) -> None:
        """Begin the next step."""
        self._done = 0
        if self._active:
            self._bar.set_description_str(self._description, refresh=False)


class TrainingLog:
    """Progress bar, JSON lines and trackers of one run.

    Args:
        accelerator: determines the writing process, and provides the trackers.
        path: the file of JSON lines; only the main process writes it.
        start_step: step of the checkpoint that the run resumes from; later lines are removed from the file.
        total_steps: steps of the whole run.
        batches: batches of this process in a step.

    Attributes:
        skipped: videos skipped so far, over all processes.
    """

    def __init__(
        self, accelerator: Accelerator, path: str | Path, start_step: int, total_steps: int, batches: int = 1
    ) -> None:
        self.accelerator, self.path = accelerator, Path(path)
        self.skipped = 0
        self._mean = RunningMean()
        self._reported, self._skipped_here = 0, 0
        self._clips, self._since = 0, time.perf_counter()
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            desc="pretraining",
            unit="step",
            disable=not accelerator.is_main_process,
        )
        self._batches = BatchProgress(self._bar, batches)
        if accelerator.is_main_process:
            lines = [line for line in read_log(self.path) if line["step"] <= start_step] if self.path.exists() else []
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_atomically(self.path, lambda aside: aside.write_text(text, encoding="utf-8"))

    def micro_batch(self, output: Mapping[str, Any], num_clips: int) -> None:
        """Record a forward pass of this process over `num_clips` clips."""
        self._mean.add(scalar_outputs(output))
        self._clips += num_clips
        self._batches.batch()

    def bad_samples(self, samples: Sequence[Mapping[str, str]], num_skipped: int) -> None:
        """Report videos that were skipped, each once.

        Args:
            samples: all skipped so far in this process, with `shard`, `clip_id` and `reason`.
            num_skipped: how often this process has skipped a video.
        """
        for sample in samples[self._reported :]:
            logger.warning("skipped %s in %s: %s", sample["clip_id"], sample["shard"], sample["reason"])
        self._reported = len(samples)
        self._skipped_here = num_skipped

    def step(self) -> None:
        """Advance the progress bar by an optimiser step."""
        self._batches.step()
        self._bar.update()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time inside, e.g. of an evaluation, from the logged speed."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def write(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Write a line with the means since the last one, over all processes; call it on all of them.

        Args:
            step: optimiser steps done.
            values: further numbers, e.g. the learning rate.

        Returns:
            The line.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        device = self.accelerator.device
        counts = torch.tensor([self._clips, self._skipped_here], dtype=torch.float32, device=device)
        clips, skipped = self.accelerator.reduce(counts, reduction="sum").tolist()
        means = self._mean.reset(self.accelerator)
        seconds = time.perf_counter() - self._since
        self._clips, self._since = 0, time.perf_counter()
        self.skipped = int(skipped)
        line = {"step": step, **values, **means, "clips_per_second": clips / seconds, "skipped_videos": skipped}
        if self.accelerator.is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._bar.set_postfix(
                loss=f"{means['loss']:.4f}", clips_s=f"{line['clips_per_second']:.1f}", skipped=self.skipped
            )
        self.accelerator.log({name: value for name, value in line.items() if name != "step"}, step=step)
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(
                f"the loss became {means['loss']} before step {step}; lower the learning rate, warm up longer, set "
                "optimization.max_gradient_norm, or use run.precision=bf16 instead of fp16"
            )
        return line

    def close(self) -> None:
        """End the progress bar."""
        self._bar.close()


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the lines of a training log as mappings; a truncated last line is dropped.

    Args:
        path: the file `training_log.jsonl` of a run.

    Returns:
        A mapping for each line.

    Raises:
        ValueError: if another line than the last is no JSON, with its number.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    complete = []
    for number, line in enumerate(lines, 1):
        try:
            complete.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number != len(lines):
                raise ValueError(
                    f"{path}: line {number} of {len(lines)} is damaged ({error}); remove the line, or the file"
                ) from error
    return complete
