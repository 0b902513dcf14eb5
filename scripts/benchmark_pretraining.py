"""Time one optimiser step of our models against transformers' VideoMAE, alternating in one process.

For each size and precision it measures transformers' `VideoMAEForPreTraining` with sdpa attention, our pixel baseline,
SIGMA with the mlp target, and SMILE's student with its teacher, CLIP ViT-B/16 with random weights. All get the same
number of masked clips and the same optimiser; for SMILE these are half as many clips with two masks each. The script
reports medians over alternating rounds, and their ratios. Peak memory is the median over fresh processes per model; it
varies by about 3 % with memory fragmentation.

Example:
    python scripts/benchmark_pretraining.py --sizes small base --precisions fp32 bf16 --rounds 5 --json benchmark.json
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, VideoMAEConfig, VideoMAEForPreTraining

from tubelets import (
    SigmaConfig,
    SigmaForPreTraining,
    SmileConfig,
    SmileForPreTraining,
    TubeletsVideoMAEConfig,
    TubeletsVideoMAEForPreTraining,
)
from tubelets.masking import TubeMaskGenerator
from tubelets.models.common.author_checkpoints import SIZES
from tubelets.models.teachers.image_encoders import TransformersImageEncoder

# Number of processes whose peak memory is measured per model.
MEMORY_RUNS = 3

MODELS = ("transformers", "pixel", "sigma_mlp", "smile_clip")


def make_model(name: str, size: str) -> torch.nn.Module:
    """Build a model by name and size, with random weights."""
    torch.manual_seed(0)
    if name == "transformers":
        return VideoMAEForPreTraining(VideoMAEConfig(**SIZES[size], use_mean_pooling=False))
    if name == "pixel":
        return TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES[size]))
    if name == "sigma_mlp":
        return SigmaForPreTraining(SigmaConfig(**SIZES[size]))
    tower = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    tower.patch_size, tower.image_size = 16, 224
    return SmileForPreTraining(SmileConfig(**SIZES[size])).load_teacher(
        TransformersImageEncoder(CLIPVisionModel(tower))
    )


def make_step(name: str, size: str, precision: str, batch_size: int, mask_ratio: float) -> Callable[[], None]:
    """Return a function that runs one optimiser step on random clips."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    model = make_model(name, size).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(batch_size, 16, 3, 224, 224, generator=generator).to(device)
    masks = TubeMaskGenerator((8, 14, 14), mask_ratio)
    mask = masks(batch_size, generator=generator).to(device)
    if name == "smile_clip":
        videos, mask = videos[: batch_size // 2], mask.unflatten(0, (-1, 2))
    extra = {} if name == "transformers" else {"num_masked": masks.num_masked}

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(videos, bool_masked_pos=mask, **extra).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def own_peak_memory() -> float:
    """Peak resident memory of this process in MB; on Linux without the share inherited from its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_memory(arguments: argparse.Namespace, name: str, size: str, precision: str) -> float:
    """Median peak resident memory in MB over fresh processes that run three steps each."""
    command = [sys.executable, __file__, "--worker", name, "--sizes", size, "--precisions", precision]
    command += ["--batch-size", str(arguments.batch_size), "--mask-ratio", str(arguments.mask_ratio)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(MEMORY_RUNS)]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def measure(arguments: argparse.Namespace, size: str, precision: str) -> dict[str, dict[str, float]]:
    """Seconds per step and peak memory of every model."""
    steps = {
        name: make_step(name, size, precision, arguments.batch_size, arguments.mask_ratio) for name in arguments.models
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(arguments.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    del steps
    result = {name: {"seconds": statistics.median(values)} for name, values in times.items()}
    for name in result if arguments.memory else ():
        result[name]["peak_mb"] = peak_memory(arguments, name, size, precision)
    return result


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=2, help="masked clips per step; must be even")
    parser.add_argument("--mask-ratio", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the memory measurement")
    parser.add_argument("--json", help="also write the results to this file")
    parser.add_argument("--worker", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch_size < 2 or arguments.batch_size % 2:
        parser.error(f"--batch-size must be an even number, got {arguments.batch_size}")
    if arguments.worker:
        step = make_step(
            arguments.worker, arguments.sizes[0], arguments.precisions[0], arguments.batch_size, arguments.mask_ratio
        )
        for _ in range(3):
            step()
        print(own_peak_memory())
        return
    results = {}
    print(f"{'size':6} {'precision':9} {'model':13} {'s/step':>8} {'peak MB':>8} {'speed-up over transformers':>27}")
    for size in arguments.sizes:
        for precision in arguments.precisions:
            measured = results[f"{size}/{precision}"] = measure(arguments, size, precision)
            reference = measured.get("transformers", {}).get("seconds", float("nan"))
            for name, values in measured.items():
                memory = f"{values['peak_mb']:8.0f}" if "peak_mb" in values else f"{'-':>8}"
                ratio = reference / values["seconds"]
                print(f"{size:6} {precision:9} {name:13} {values['seconds']:8.3f} {memory} {ratio:27.2f}", flush=True)
            for name, words in (("sigma_mlp", "SIGMA with the mlp target"), ("smile_clip", "SMILE with its teacher")):
                if {"pixel", name} <= measured.keys():
                    cost = measured[name]["seconds"] / measured["pixel"]["seconds"]
                    print(f"{size:6} {precision:9} {words}: {cost:.2f} x the time of our pixel step", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
