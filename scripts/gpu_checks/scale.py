"""Scale: data parallel, sharded, recomputed and resumed runs of the training script, with the losses of one process."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmark_loading import write_videos
from gpu_checks.models import ROOT
from gpu_checks.session import Finding, NotApplicableError, OutOfTimeError, Session
from tiny import TINY_RUN
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records
from tubelets.training.run_log import read_log

_RECIPE = "training/recipes/sigma_tiny_demo.yaml"
_STEPS = 6
_FIELDS: dict[str, Any] = {**TINY_RUN, "data.split_by": "samples", "optimization.max_steps": _STEPS}
_FSDP = [
    "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
    "--fsdp_reshard_after_forward", "true", "--fsdp_state_dict_type", "FULL_STATE_DICT",
]  # fmt: skip
# Losses of float32 runs that add in another order; a few steps let the difference grow.
_TOLERANCE = 2e-3


def run(session: Session) -> None:
    """Compare losses of short runs with those of one process."""
    runs = Runs(session)
    session.check("one process", runs.one_process, needs=15)
    session.check("gradient checkpointing", runs.checkpointing, needs=15)
    session.check("data parallel, 1 process", functools.partial(runs.data_parallel, 1), needs=15)
    session.check("data parallel, 2 or more processes", runs.all_cards, needs=20)
    session.check("FSDP2", runs.sharded, needs=20)
    session.check("a checkpoint of the CPU resumes on the device", functools.partial(runs.resume, True), needs=30)
    session.check("a checkpoint of the device resumes on the CPU", functools.partial(runs.resume, False), needs=20)


class Runs:
    """Short runs of the training script.

    Args:
        session: the part's run.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.folder = session.output / "scale"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.cards = torch.cuda.device_count() if session.on_gpu else 0
        self.shards = self.folder / "shards"
        videos = self.folder / "videos"
        videos.mkdir()
        write_videos(videos, 8, 24, 48, 64)
        build_shards(read_records(videos), self.shards, clips_per_shard=2, progress=False)

    def train(
        self, name: str, launcher: list[str], processes: int = 1, on_cpu: bool = False, **changes: Any
    ) -> list[float]:
        """Run the script to its end; return the losses by step."""
        output = self.folder / name
        fields = {**_FIELDS, "data.path": self.shards, "run.output_dir": output}
        fields |= {"run.precision": "fp32", "run.batch_size": 4 // processes}
        fields |= {key.replace("__", "."): value for key, value in changes.items()}
        words = [*launcher, "training/run_pretraining.py", _RECIPE, *(f"--{k}={v}" for k, v in fields.items())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NVIDIA_TF32_OVERRIDE": "0"}
        if on_cpu or not self.session.on_gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        try:
            ended = subprocess.run(
                [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
                timeout=max(self.session.left(), 1.0) + 30,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OutOfTimeError(f"the run {name!r} did not end in time; raise --minutes") from None
        if ended.returncode:
            raise RuntimeError(f"the run {name!r} ended with code {ended.returncode}:\n{ended.stderr[-3000:]}")
        self._check_device(output, on_cpu)
        lines = read_log(output / "training_log.jsonl")
        steps = [line["step"] for line in lines]
        if steps != list(range(1, _STEPS + 1)):
            raise AssertionError(f"the run {name!r} logged the steps {steps}, expected 1 to {_STEPS}")
        return [line["loss"] for line in lines]

    def _check_device(self, output: Path, on_cpu: bool) -> None:
        summary = json.loads((output / "final" / "training_summary.json").read_text(encoding="utf-8"))
        expected = "cuda" if self.session.on_gpu and not on_cpu else "cpu"
        if summary["device"] != expected:
            raise AssertionError(f"the run was on {summary['device']}, expected {expected}")

    def reference(self) -> list[float]:
        """Losses of one process on the device."""
        log = self.folder / "one" / "training_log.jsonl"
        if not log.exists():
            raise NotApplicableError("the run of one process failed, so that there is nothing to compare with")
        return [line["loss"] for line in read_log(log)]

    def compare(self, losses: list[float]) -> Finding:
        """Losses against those of one process."""
        return _compare(losses, self.reference())

    def one_process(self) -> Finding:
        """The reference: `accelerate launch` with one process."""
        losses = self.train("one", ["-m", "accelerate.commands.launch", "--num_processes", "1", *self._cpu()])
        if not all(loss == loss and abs(loss) < 1e4 for loss in losses):
            raise AssertionError(f"losses are {losses}")
        return Finding(f"{_STEPS} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}", {"losses": losses})

    def _cpu(self) -> list[str]:
        return [] if self.session.on_gpu else ["--cpu"]

    def checkpointing(self) -> Finding:
        """Activations recomputed in the backward pass."""
        return self.compare(self.train("recomputed", [], run__activation_checkpointing="true"))

    def data_parallel(self, processes: int) -> Finding:
        """DDP: NCCL on GPUs, gloo on CPUs."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        losses = self.train(f"ddp-{processes}", launcher, processes)
        found = self.compare(losses)
        found.detail += f"; {'NCCL' if self.session.on_gpu else 'gloo'}, {processes} processes"
        return found

    def all_cards(self) -> Finding:
        """DDP over all cards, or over two processes of a CPU."""
        if self.session.on_gpu and self.cards < 2:
            raise NotApplicableError("this machine has one card")
        # The global batch of 4 clips must be a multiple of the processes.
        return self.data_parallel(4 if self.cards >= 4 else 2)

    def sharded(self) -> Finding:
        """FSDP2 over all cards."""
        if not self.session.on_gpu:
            raise NotApplicableError("on CPUs accelerate falls back to data parallel without a word")
        processes = 4 if self.cards >= 4 else min(self.cards, 2)
        launcher = ["-m", "accelerate.commands.launch", *_FSDP, "--num_processes", str(processes)]
        found = self.compare(self.train("fsdp2", launcher, processes))
        found.detail += f"; {processes} process{'es' if processes > 1 else ''}"
        return found

    def resume(self, from_cpu: bool) -> Finding:
        """Resume a checkpoint of step 4 on another kind of device."""
        name = "cpu-to-device" if from_cpu else "device-to-cpu"
        if from_cpu:
            whole = self.train(name, [], on_cpu=True)
        else:
            whole = self.reference()
            shutil.copytree(self.folder / "one", self.folder / name)
        # What is left after an interruption behind step 4.
        for part in (f"checkpoint-{_STEPS}", "final"):
            shutil.rmtree(self.folder / name / part)
        found = _compare(self.train(name, [], on_cpu=not from_cpu), whole)
        if not self.session.on_gpu:
            found.detail += "; both are CPUs here"
        return found


def _compare(losses: list[float], expected: list[float]) -> Finding:
    apart = [abs(a - b) / max(abs(b), 1e-6) for a, b in zip(losses, expected, strict=True)]
    if not max(apart) <= _TOLERANCE:
        raise AssertionError(f"losses {losses} differ from {expected} by up to {max(apart):.1e}")
    return Finding(f"losses within {max(apart):.0e}", {"losses": losses, "expected": expected})
