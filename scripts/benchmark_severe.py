"""Time SEVERE's metric of boxes against a loop over boxes, and counting by levels against counting state by state.

Both sides of a pair run in turns in this process, on the same input, and must agree before they are timed. Printed are
medians and their ratio.

  python scripts/benchmark_severe.py
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from tubelets.objectives.counting import CyclePrediction
from tubelets.tasks.action_detection.metrics import frame_average_precision
from tubelets.tasks.repetition_counting.decoder import count_repetitions


def make_boxes(count: int, classes: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Detections around true boxes of `count // 4` frames."""

    def boxes(centres: Tensor) -> Tensor:
        half = 0.05 + 0.2 * torch.rand(len(centres), 2, generator=generator)
        return torch.cat([centres - half, centres + half], dim=1)

    frames = torch.stack([torch.arange(count // 4) % 50, torch.arange(count // 4)], dim=1)
    true_frames = frames.repeat_interleave(2, dim=0)
    centres = torch.rand(len(true_frames), 2, generator=generator)
    noise = 0.05 * torch.randn(2 * len(centres), 2, generator=generator)
    return {
        "truth_boxes": boxes(centres),
        "truth_frames": true_frames,
        "truth_classes": torch.randint(classes, (len(true_frames),), generator=generator),
        "boxes": boxes(centres.repeat(2, 1) + noise),
        "frames": true_frames.repeat(2, 1),
        "scores": torch.rand(2 * len(true_frames), classes, generator=generator),
    }


def loop_average_precision(given: dict[str, Tensor]) -> Tensor:
    """The same numbers, class by class and frame by frame, as the usual evaluators have it."""
    values = []
    for number in range(given["scores"].shape[1]):
        of_class = given["truth_classes"] == number
        found, scores = [], []
        for frame in given["frames"].unique(dim=0):
            here = (given["frames"] == frame).all(dim=1)
            true = given["truth_boxes"][of_class & (given["truth_frames"] == frame).all(dim=1)]
            taken: set[int] = set()
            for box, score in zip(given["boxes"][here], given["scores"][here, number].tolist(), strict=True):
                overlap = box_iou(box[None].double(), true.double())[0]
                best = int(overlap.argmax()) if len(overlap) else -1
                hit = best >= 0 and float(overlap[best]) >= 0.5 and best not in taken
                if hit:
                    taken.add(best)
                found.append(float(hit))
                scores.append(score)
        order = torch.tensor(scores, dtype=torch.float64).argsort(descending=True, stable=True)
        hits = torch.tensor(found, dtype=torch.float64)[order]
        precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
        area = 0.0
        for place in range(len(hits)):
            area += float(hits[place] * precision[place:].max())
        values.append(area / max(int(of_class.sum()), 1))
    return torch.tensor(values, dtype=torch.float64)


def stand_in(clips: Tensor) -> tuple[CyclePrediction, CyclePrediction]:
    """A network that costs little: its outputs depend on the frames it is shown."""
    means = clips.mean(dim=(2, 3, 4))[:, :28]
    past = CyclePrediction(means[:, :14].unflatten(1, (2, 7)), 0.2 * means[:, 14:21])
    return past, CyclePrediction(means[:, 14:].unflatten(1, (2, 7)), 0.2 * means[:, :7])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returned."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def compare_metric(count: int, classes: int, rounds: int) -> None:
    """Print both times of the metric."""
    given = make_boxes(count, classes, torch.Generator().manual_seed(0))
    pairs = []
    for _ in range(rounds):
        fast, ours = timed(lambda: frame_average_precision(**given))
        slow, theirs = timed(lambda: loop_average_precision(given))
        torch.testing.assert_close(ours, theirs)
        pairs.append((slow, fast))
    slow, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"frame mAP, {count} boxes, {classes} classes: {fast:.3f} s, loop {slow:.2f} s, {slow / fast:.0f}x")


def count_calls(frames: int) -> None:
    """Print how often the network runs for a video."""
    calls = []

    def network(clips: Tensor) -> tuple[CyclePrediction, CyclePrediction]:
        calls.append(len(clips))
        return stand_in(clips)

    videos = torch.randn(1, frames, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    count_repetitions(network, videos, torch.tensor([frames]))
    print(f"counting, a video of {frames} frames: {len(calls)} calls of {sum(calls)} clips instead of 74 calls")


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=10_000, help="detections")
    parser.add_argument("--classes", type=int, default=5, help="classes")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side runs")
    options = parser.parse_args()
    compare_metric(options.boxes, options.classes, options.rounds)
    count_calls(300)


if __name__ == "__main__":
    main()
