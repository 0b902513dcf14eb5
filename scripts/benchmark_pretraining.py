"""Time one optimiser step of our models against transformers' VideoMAE, alternating in one process.

For each size and precision it measures transformers' `VideoMAEForPreTraining` with sdpa attention, our pixel baseline,
SIGMA with the mlp target and with DINO's (ViT-S/16 with random weights), and SMILE's student with its teacher, CLIP
ViT-B/16 with random weights, and with features of the teacher that were computed before. All get the same number of
masked clips and the same optimiser; for SMILE these are half as many clips with two masks each. The script reports
medians over alternating rounds, and their ratios. Peak memory is the median over fresh processes per model; it varies
by about 3 % with memory fragmentation. `scripts/check_gpu.py` measures the same steps on a GPU.

Example:
    python scripts/benchmark_pretraining.py --sizes small base --precisions fp32 bf16 --rounds 5 --json benchmark.json
"""

import argparse
import dataclasses
import json
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, VideoMAEConfig, VideoMAEForPreTraining, ViTConfig, ViTModel

from gpu_checks.timing import Step, alternate, finish
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

MODELS = ("transformers", "pixel", "sigma_mlp", "sigma_dino", "smile_clip", "smile_cached")

WORDS = {
    "sigma_mlp": "SIGMA with the mlp target",
    "sigma_dino": "SIGMA with DINO's target",
    "smile_clip": "SMILE with its teacher",
    "smile_cached": "SMILE with cached features",
}

PAPER: dict[str, Any] = {"image_size": 224, "patch_size": 16, "num_frames": 16, "tubelet_size": 2}
"""Sizes of the papers' clips; the networks' are in `SIZES`."""

CLIP, DINO = ({"hidden_size": 64 * heads, "num_attention_heads": heads, "intermediate_size": 256 * heads,
               "num_hidden_layers": 12} for heads in (12, 6))  # fmt: skip
"""Sizes of the teachers: ViT-B/16 and ViT-S/16."""


@dataclass(frozen=True)
class Workload:
    """What a step computes.

    Attributes:
        fields: fields of the configuration of every model.
        batch_size: masked clips in a step, an even number.
        precision: `fp32`, or `bf16` under autocast.
        device: where.
        mask_ratio: share of masked tokens; masks are tubes.
        clip: sizes of SMILE's teacher.
        dino: sizes of SIGMA's teacher.
    """

    fields: Mapping[str, Any]
    batch_size: int
    precision: str = "bf16"
    device: str = "cpu"
    mask_ratio: float = 0.9
    clip: Mapping[str, int] = dataclasses.field(default_factory=lambda: CLIP)
    dino: Mapping[str, int] = dataclasses.field(default_factory=lambda: DINO)

    @classmethod
    def of_paper(cls, size: str, batch_size: int, **options: Any) -> "Workload":
        """The papers' clips and one of their networks, a name in `SIZES`."""
        return cls({**PAPER, **SIZES[size]}, batch_size, **options)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens over time, rows and columns."""
        side = self.fields["image_size"] // self.fields["patch_size"]
        return self.fields["num_frames"] // self.fields["tubelet_size"], side, side


def make_model(name: str, workload: Workload) -> torch.nn.Module:
    """Build a model by name, with random weights."""
    torch.manual_seed(0)
    fields = dict(workload.fields)
    if name == "transformers":
        return VideoMAEForPreTraining(VideoMAEConfig(**fields, use_mean_pooling=False))
    if name == "pixel":
        return TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**fields))
    if name == "sigma_mlp":
        return SigmaForPreTraining(SigmaConfig(**fields))
    frames = {"patch_size": fields["patch_size"], "image_size": fields["image_size"]}
    if name == "sigma_dino":
        teacher = ViTModel(ViTConfig(**workload.dino, **frames), add_pooling_layer=False)
        config = SigmaConfig(**fields, target_type="dino_v1", teacher_hidden_size=workload.dino["hidden_size"])
        return SigmaForPreTraining(config).load_teacher(TransformersImageEncoder(teacher))
    smile = SmileForPreTraining(SmileConfig(**fields, teacher_hidden_size=workload.clip["hidden_size"]))
    if name == "smile_cached":
        return smile
    return smile.load_teacher(TransformersImageEncoder(CLIPVisionModel(CLIPVisionConfig(**workload.clip, **frames))))


def make_inputs(name: str, workload: Workload) -> dict[str, Any]:
    """Random clips and masks on the device, as arguments of a model."""
    count, device, fields = workload.batch_size, workload.device, workload.fields
    generator = torch.Generator().manual_seed(0)
    shape = (count, fields["num_frames"], 3, fields["image_size"], fields["image_size"])
    masks = TubeMaskGenerator(workload.grid, workload.mask_ratio)
    inputs: dict[str, Any] = {
        "pixel_values": torch.randn(shape, generator=generator),
        "bool_masked_pos": masks(count, generator=generator),
    }
    if name != "transformers":
        inputs["num_masked"] = masks.num_masked
    if name.startswith("smile"):
        inputs["pixel_values"] = inputs["pixel_values"][: count // 2]
        inputs["bool_masked_pos"] = inputs["bool_masked_pos"].unflatten(0, (-1, 2))
    if name == "smile_cached":
        tokens = inputs["bool_masked_pos"].shape[-1]
        features = (count // 2, tokens, workload.clip["hidden_size"])
        inputs["target_features"] = torch.randn(features, generator=generator)
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in inputs.items()}


def make_step(name: str, workload: Workload, compiled: bool = False) -> Step:
    """Return a function that runs one optimiser step on random clips, to its end.

    Args:
        name: one of `MODELS`.
        workload: sizes, precision and device.
        compiled: compile the model; a graph break is an error in ours.
    """
    device = torch.device(workload.device)
    model = make_model(name, workload).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs = make_inputs(name, workload)
    if compiled:
        model.compile(fullgraph=name != "transformers")

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=workload.precision == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        finish(device)

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


def workload_of(arguments: argparse.Namespace, size: str, precision: str) -> Workload:
    """The workload that the command line asks for."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"precision": precision, "device": device, "mask_ratio": arguments.mask_ratio}
    return Workload.of_paper(size, arguments.batch_size, **options)


def measure(arguments: argparse.Namespace, size: str, precision: str) -> dict[str, dict[str, float]]:
    """Seconds per step and peak memory of every model."""
    workload = workload_of(arguments, size, precision)
    times = alternate({name: make_step(name, workload) for name in arguments.models}, arguments.rounds)
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
        step = make_step(arguments.worker, workload_of(arguments, arguments.sizes[0], arguments.precisions[0]))
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
            for name, words in WORDS.items():
                if {"pixel", name} <= measured.keys():
                    cost = measured[name]["seconds"] / measured["pixel"]["seconds"]
                    print(f"{size:6} {precision:9} {words}: {cost:.2f} x the time of our pixel step", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
