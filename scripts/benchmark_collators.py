"""Time the collators of pretraining: the part of a worker, and the part that `run.augment_on=device` moves.

Times are processor time of one thread in milliseconds per clip (per pair for Tubelet-Contrast, whose every clip is the
query of a pair), medians over rounds that alternate between the cases. The last column is the time of collating the
clips of the batch one by one, over that of the batch; pairs need a batch. Reading and decoding are not included.

Examples:
  python scripts/benchmark_collators.py
  python scripts/benchmark_collators.py --clips 32 --rounds 9 --json collators.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tubelets import LocoMotionConfig, SmileConfig, TubeletContrastConfig, TubeletsVideoMAEConfig
from tubelets.models.common.auto import pretraining_collator
from tubelets.models.common.collators import TwoPartCollator

# The package's own vocabulary: BERT's would be downloaded.
WORDS = {"tokenizer": "motion_words", "vocab_size": 560}
CASES: dict[str, Callable[[], Any]] = {
    "SMILE, first stage, 224": lambda: SmileConfig(objects="shapes"),
    "SMILE, second stage, 224": lambda: SmileConfig(num_objects=0, mask_type="tube"),
    "Tubelet-Contrast, 112": lambda: TubeletContrastConfig(image_size=112),
    "Tubelet-Contrast, 224": lambda: TubeletContrastConfig(image_size=224),
    "Tubelet-Contrast, 224, no colours": lambda: TubeletContrastConfig(image_size=224, colour_probability=0.0),
    "LocoMotion, 4 frames of 224": lambda: LocoMotionConfig(objects="shapes", text_config=WORDS),
    "tube masks, 224": TubeletsVideoMAEConfig,
    "green3d masks, 224": lambda: TubeletsVideoMAEConfig(mask_type="green3d"),
}


def make_items(config: Any, clips: int) -> list[dict[str, Any]]:
    """Random clips as a stream yields them."""
    generator = torch.Generator().manual_seed(0)
    shape = config.pretraining_specs["pixel_values"].shape
    return [
        {"pixel_values": torch.randint(256, shape, dtype=torch.uint8, generator=generator), "seed": seed}
        for seed in range(clips)
    ]


def milliseconds(function: Callable[[], object]) -> float:
    """Processor time of a call."""
    start = time.thread_time()
    function()
    return 1000 * (time.thread_time() - start)


def make_parts(config: Any, clips: int) -> dict[str, Callable[[], object]]:
    """The timed calls of one case."""
    collate, items = pretraining_collator(config), make_items(config, clips)
    parts: dict[str, Callable[[], object]] = {"all": lambda: collate(items)}
    if isinstance(collate, TwoPartCollator):
        parts["worker"] = lambda: collate.prepare(items)
    if not isinstance(config, TubeletContrastConfig):
        parts["one by one"] = lambda: [collate([item]) for item in items]
    return parts


def measure(clips: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median times per clip of every case and part, and the ratio of single clips to the batch.

    Args:
        clips: clips per batch.
        rounds: timed rounds, after one that warms up.
    """
    parts = {name: make_parts(make_config(), clips) for name, make_config in CASES.items()}
    times: dict[str, dict[str, list[float]]] = {name: {part: [] for part in parts[name]} for name in CASES}
    for number in range(rounds + 1):
        for name, calls in parts.items():
            for part, call in calls.items():
                elapsed = milliseconds(call) / clips
                if number:
                    times[name][part].append(elapsed)
    results = {name: {part: statistics.median(each) for part, each in times[name].items()} for name in CASES}
    for name, found in times.items():
        if "one by one" in found:
            ratios = [alone / batch for alone, batch in zip(found["one by one"], found["all"], strict=True)]
            results[name]["ratio"] = statistics.median(ratios)
    return results


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16, help="clips per batch (default: 16)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.clips, arguments.rounds)
    print(f"{'ms a clip':34} {'all':>7} {'worker part':>12} {'one by one / batch':>19}")
    for name, found in results.items():
        worker = f"{found['worker']:12.2f}" if "worker" in found else f"{'-':>12}"
        ratio = f"{found['ratio']:19.2f}" if "ratio" in found else f"{'-':>19}"
        print(f"{name:34} {found['all']:7.2f} {worker} {ratio}")
    if arguments.json is not None:
        settings = {"clips": arguments.clips, "rounds": arguments.rounds}
        arguments.json.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
