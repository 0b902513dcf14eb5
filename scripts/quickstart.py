"""Learn motion from real footage without labels, measure it, and make a page of the results.

A small Tubelet-Contrast watches clips that share nothing but moving patches. It is compared with random weights on
CameraMotion-8 and MovingObjects: neighbours, probes on frozen features, fine-tuning with 16 labels a class. Test clips
come from other videos.

`scripts/quickstart.sh` creates the environment and calls this script. Run it again to resume; `--fresh` starts over.
All results go to `--output_dir`, fetched footage to the cache folder.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quickstart_parts.page import PRETRAINED, RANDOM, Results, write_page
from tubelets.benchmarks.camera_motion import CAMERA_MOTIONS
from tubelets.data.assets.fetching import fetch
from tubelets.evaluation.frozen import headline

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = {"CameraMotion-8": "camera-motion", "MovingObjects": "moving-objects"}
# Fine-tuning needs another rate from random weights than from pretrained ones, so each side chooses its own.
RATES = (1e-3, 4e-3)
SHOTS, HELD_BACK = 16, 4
# Parts of the whole time, measured on two cores; they say how much is left.
SHARES = {
    "data": 0.09,
    "first stage": 0.22,
    "second stage": 0.39,
    "evaluation": 0.05,
    "fine-tuning": 0.23,
    "page": 0.02,
}


@dataclass
class Clock:
    """Prints the steps with the time that is left.

    Attributes:
        started: when the script started.
        done: share of the work that is done.
    """

    started: float = field(default_factory=time.perf_counter)
    done: float = 0.0

    def begin(self, name: str, what: str) -> None:
        """Print a step; the time that is left follows from the steps before it."""
        passed = time.perf_counter() - self.started
        left = "" if self.done == 0 else f", about {passed * (1 - self.done) / self.done / 60:.0f} min left"
        number = list(SHARES).index(name) + 1
        print(f"\n{number}/{len(SHARES)} {what} ({passed / 60:.1f} min so far{left})", flush=True)
        self.done += SHARES[name]


def run(*words: str | Path | int | float) -> None:
    """Print and run a verb of the command."""
    command = [str(word) for word in words]
    print(f"$ tubelets {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "tubelets", *command], check=True, cwd=ROOT)


def make_benchmarks(output: Path, clips: int) -> dict[str, Path]:
    """Fetch the footage and build both benchmarks: `clips` training clips, and a quarter as many for the test."""
    fetch()
    folders = {name: output / kind.replace("-", "_") for name, kind in BENCHMARKS.items()}
    for name, kind in BENCHMARKS.items():
        run("benchmarks", kind, "--output_dir", folders[name], "--train_clips", clips, "--test_clips", clips // 4)
    return folders


def pretrain(recipe: str, data: Path, folder: Path, steps: int, init_from: Path | None = None) -> Path:
    """Pretrain a recipe, from a model or random weights, or resume it; return the folder of the model."""
    start = () if init_from is None else ("--model.init_from", init_from)
    run("pretrain", recipe, "--data.path", data, "--run.output_dir", folder, "--optimization.max_steps", steps, *start)
    return folder / "final"


def measure_frozen(model: Path, data: Path, output: Path, shots: int) -> dict[str, dict[str, float]]:
    """Top-1 accuracies of frozen features of a model and of its random twin, which is left in `output`."""
    if not (output / "frozen.json").exists():
        run("evaluate", model, data, "--output_dir", output, "--sampling", "uniform", "--random_twin", "--shots", shots)
    results = json.loads((output / "frozen.json").read_text(encoding="utf-8"))["results"]
    return {PRETRAINED: headline(results["checkpoint"]), RANDOM: headline(results["random weights"])}


def finetune(model: Path, data: Path, folder: Path, steps: int, rate: float, shots: int, held_back: int = 0) -> float:
    """Top-1 accuracy after fine-tuning, on the test split or on labels that were held back from training."""
    if not (folder / "all_results.json").exists():
        choice = ("--held_back_shots", held_back) if held_back else ()
        batch = min(32, shots * len(CAMERA_MOTIONS))
        run("finetune", "study_finetune_few_labels_cnn", "--model_name_or_path", model, "--dataset_name", data,
            "--output_dir", folder, "--shots_per_class", shots, "--max_steps", steps, "--base_learning_rate", rate,
            "--per_device_train_batch_size", batch, *choice)  # fmt: skip
    return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))["test_top_1"]


def finetune_at_best_rate(model: Path, data: Path, folder: Path, steps: int, shots: int) -> tuple[float, float]:
    """Choose the learning rate on a quarter of the labels, then train with all; return test accuracy and rate."""
    held_back = max(1, shots * HELD_BACK // SHOTS)
    scores = {
        rate: finetune(model, data, folder / f"rate_{rate:g}", steps, rate, shots - held_back, held_back)
        for rate in RATES
    }
    best = max(scores, key=scores.__getitem__)
    return finetune(model, data, folder / "final", steps, best, shots), best


def evaluate(model: Path, data: dict[str, Path], output: Path, shots: int) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracies of frozen features by benchmark, model and measure; writes embeddings of the test clips."""
    scores = {}
    for name, folder in data.items():
        report = output / "evaluation" / folder.name
        scores[name] = measure_frozen(model, folder, report, shots)
    folder = data["CameraMotion-8"]
    for side, weights in ((PRETRAINED, model), (RANDOM, output / "evaluation" / folder.name / "random_twin")):
        file = output / "evaluation" / f"{side.replace(' ', '_')}.parquet"
        run("embed", weights, folder, file, "--split", "test", "--sampling", "uniform")
    return scores


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = ROOT / "runs" / "quickstart"
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=folder, help="output folder")
    parser.add_argument("--steps", type=int, nargs=2, default=(110, 190), help="optimiser steps of both stages")
    parser.add_argument("--clips", type=int, default=2048, help="training clips of each benchmark")
    parser.add_argument("--finetuning_steps", "--finetuning-steps", type=int, default=60, help="steps of fine-tuning")
    parser.add_argument("--fresh", action="store_true", help="delete the results of an earlier run")
    return parser.parse_args(arguments)


def main() -> None:
    """Run all steps."""
    options = parse_arguments()
    output = options.output_dir.resolve()
    if options.fresh:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    clock.begin("data", "fetch footage, build two benchmarks")
    data = make_benchmarks(output, options.clips)
    camera = data["CameraMotion-8"]
    clock.begin("first stage", "pretrain without labels: the same patches move over two clips")
    first = pretrain("study_tubelet_contrast", camera, output / "first_stage", options.steps[0])
    clock.begin("second stage", "pretrain on: different patches, the same motion")
    model = pretrain("study_tubelet_contrast_own_patches", camera, output / "model", options.steps[1], first)
    clock.begin("evaluation", "frozen features on held-out videos, beside random weights")
    shots = min(SHOTS, options.clips // (2 * len(CAMERA_MOTIONS)))
    scores = evaluate(model, data, output, shots)
    clock.begin("fine-tuning", f"fine-tune with {shots} labels a class; the rate is chosen on held-back labels")
    sides = {PRETRAINED: model, RANDOM: output / "evaluation" / camera.name / "random_twin"}
    rates = {}
    for side, folder in sides.items():
        tuned = output / "finetuning" / side.replace(" ", "_")
        accuracy, rates[side] = finetune_at_best_rate(folder, camera, tuned, options.finetuning_steps, shots)
        scores["CameraMotion-8"][side][f"{shots}-shot fine-tuning"] = accuracy
    clock.begin("page", "pictures")
    page = write_page(Results(output, camera, [first, model], scores, rates))
    for name, found in scores.items():
        print(f"{name}, held-out videos, top-1 accuracy")
        for measure in found[PRETRAINED]:
            print(f"  {measure:20}" + "".join(f"{side} {values[measure]:6.1%}   " for side, values in found.items()))
    print(f"done in {(time.perf_counter() - clock.started) / 60:.1f} min; open {page}")


if __name__ == "__main__":
    main()
