"""Run the full pipeline on real footage: fetch, shard, pretrain, reload, evaluate and visualise.

Two models are pretrained: a tiny SIGMA, which exercises every component, and a small Tubelet-Contrast, which learns
useful features in a few minutes and is compared with random weights on held-out videos.

`scripts/quickstart.sh` creates the environment and calls this script. Run it again to resume; `--fresh` starts over.
All results go to `--output`, fetched footage to the cache folder.
"""

import argparse
import html
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForPreTraining

from tubelets.benchmarks.camera_motion import CAMERA_MOTIONS
from tubelets.data.assets.fetching import fetch
from tubelets.data.assets.table import FOOTAGE
from tubelets.data.build.shards import build_shards
from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.modalities.video import read_clip
from tubelets.data.sources.records import VideoRecord, find_class_names
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation.frozen import headline
from tubelets.masking import build_mask_generator
from tubelets.models.methods.sigma.modeling_sigma import SigmaForPreTraining
from tubelets.training.run_log import read_log
from tubelets.visualization import save_assignments, save_masks, save_scores, save_training_curves

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "exercise"


def run(*command: str | Path) -> None:
    """Print and run a verb of the command `tubelets` with this Python."""
    words = [str(word) for word in command]
    print(f"$ tubelets {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "tubelets", *words], check=True, cwd=ROOT)


def make_shards(output: Path) -> Path:
    """Fetch the footage and pack it into Parquet shards."""
    fetch()
    records = [VideoRecord(clip.local_path(), label=clip.label, caption=None, clip_id=clip.label) for clip in FOOTAGE]
    report = build_shards(
        records,
        output / "shards",
        class_names=find_class_names(records),
        transcode=TranscodeOptions(short_side=96, keyframe_interval=16),
        clips_per_shard=4,
        num_workers=2,
    )
    if report.bad_files:
        raise SystemExit(f"unreadable footage: {report.bad_files}")
    return output / "shards"


def pretrain(recipe: str, shards: Path, folder: Path, steps: int, init_from: Path | None = None) -> Path:
    """Pretrain a recipe, from a model or random weights, or resume it; return the model's folder."""
    start = () if init_from is None else ("--model.init_from", init_from)
    run("pretrain", recipe, "--data.path", shards, "--output_dir", folder, "--optimization.max_steps", str(steps),
        *start)  # fmt: skip
    return folder / "final"


def pretrain_contrast(benchmark: Path, output: Path, steps: Sequence[int]) -> list[Path]:
    """Pretrain both stages of the study's Tubelet-Contrast; return the models' folders."""
    first = pretrain("study_tubelet_contrast", benchmark, output / "tubelet_contrast_stage1", steps[0])
    second = pretrain("study_tubelet_contrast_own_patches", benchmark, output / "tubelet_contrast", steps[1], first)
    return [first, second]


def draw(model_folder: Path, output: Path) -> dict[str, Path]:
    """Draw loss curves, masks and prototype assignments."""
    model = AutoModelForPreTraining.from_pretrained(model_folder / "final").eval()
    assert isinstance(model, SigmaForPreTraining)
    config = model.config
    crop = Compose((ShortSideResize(config.image_size), CenterCrop(config.image_size)))
    generator = torch.Generator().manual_seed(0)
    clips = {
        clip.label: crop(read_clip(clip.local_path(), config.num_frames, 2, start=40), generator) for clip in FOOTAGE
    }
    masks = {
        name: build_mask_generator(name, config.grid, config.mask_ratio)(len(clips), generator=generator)
        for name in ("tube", "random")
    }
    with torch.no_grad():
        prediction = model(torch.stack(list(clips.values())), masks[config.mask_type])
    shown = list(clips).index(SHOWN)
    labels = {
        "prototype of the masked tubes (projection)": prediction.projection_labels[shown],
        "prototype predicted from the visible tubes": prediction.prediction_labels[shown],
    }
    tube = masks[config.mask_type][shown]
    agree = (prediction.projection_labels == prediction.prediction_labels).float().mean().item()
    return {
        "Losses and what else was logged": save_training_curves(
            read_log(model_folder / "training_log.jsonl"), output / "curves.png", "tiny SIGMA on 15 real clips"
        ),
        f"Masks over frames, ratio {config.mask_ratio}": save_masks(
            clips[SHOWN], {name: mask[shown] for name, mask in masks.items()}, config.grid, output / "masks.png"
        ),
        f"Prototypes over frames; branches agree on {agree:.0%} of masked tubes (chance 1/{config.num_prototypes})":
            save_assignments(clips[SHOWN], tube, labels, config.grid, output / "assignments.png"),
    }  # fmt: skip


def make_benchmark(output: Path, clips: int) -> Path:
    """Build CameraMotion-8: `clips` labelled training clips, and half as many test clips of other videos."""
    run("benchmarks", "camera-motion", "--output_dir", output / "camera_motion",
        "--train_clips", str(clips), "--test_clips", str(clips // 2))  # fmt: skip
    return output / "camera_motion"


def probe(model_folder: Path, benchmark: Path, report: Path, shots: int) -> dict[str, dict[str, float]]:
    """Top-1 accuracies of probes on frozen features, for a model and its random twin."""
    if not (report / "frozen.json").exists():
        run("evaluate", model_folder, benchmark, "--output_dir", report, "--sampling", "uniform",
            "--random_twin", "--shots", str(shots))  # fmt: skip
    results = json.loads((report / "frozen.json").read_text(encoding="utf-8"))["results"]
    return {
        "pretrained": headline(results["checkpoint"]),
        "random weights": headline(results["random weights"]),
    }


def finetune(folder: Path, benchmark: Path, output: Path, shots: int, steps: int) -> float:
    """Top-1 accuracy after fine-tuning with a few labels per class."""
    if not (output / "all_results.json").exists():
        run("finetune", "study_finetune_few_labels_cnn",
            "--model_name_or_path", folder, "--dataset_name", benchmark, "--output_dir", output,
            "--shots_per_class", str(shots), "--max_steps", str(steps))  # fmt: skip
    return json.loads((output / "all_results.json").read_text(encoding="utf-8"))["test_top_1"]


def evaluate(model_folder: Path, benchmark: Path, output: Path, clips: int, steps: int) -> dict[str, dict[str, float]]:
    """Evaluate a model and its random twin with probes and few-label fine-tuning.

    Args:
        model_folder: the pretrained model.
        benchmark: labelled clips.
        output: folder of the results.
        clips: training clips of the benchmark; fine-tuning uses up to 16 labels per class.
        steps: optimiser steps of each fine-tuning run.

    Returns:
        Top-1 accuracies by model and metric.
    """
    report, shots = output / "evaluation", min(16, clips // len(CAMERA_MOTIONS))
    scores = probe(model_folder, benchmark, report, shots)
    for name, folder in (("pretrained", model_folder), ("random weights", report / "random_twin")):
        tuned = finetune(folder, benchmark, output / "finetuning" / name.replace(" ", "_"), shots, steps)
        scores[name][f"{shots}-shot fine-tuning"] = tuned
    return scores


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """Print a table of accuracies, with chance level."""
    chance = 1 / len(CAMERA_MOTIONS)
    print(f"Tubelet-Contrast on CameraMotion-8, held-out videos, top-1 accuracy; chance {chance:.1%}")
    for measure in scores["pretrained"]:
        print(f"  {measure:20}" + "".join(f"{name} {values[measure]:6.1%}   " for name, values in scores.items()))


def how_long(stages: Sequence[Path]) -> str:
    """Describe the total length of the pretraining stages."""
    summaries = [json.loads((model / "training_summary.json").read_text(encoding="utf-8")) for model in stages]
    steps, clips, seconds = (sum(summary[name] for summary in summaries) for name in ("steps", "clips_seen", "seconds"))
    return f"{steps} steps ({clips} clips, {seconds:.0f} seconds on {summaries[0]['device']})"


def write_page(pictures: dict[str, Path], sigma: Path, contrast: Sequence[Path], output: Path) -> Path:
    """Write an HTML page with the pictures and a description of the runs."""
    footage = ", ".join(f"{clip.label} ({clip.description})" for clip in FOOTAGE)
    what = (
        f"A small Tubelet-Contrast was trained without labels for {how_long(contrast)} to match pairs of clips by the "
        "patches that move over both: first the same patches, then different ones with the same motion. It is compared "
        "with a random twin, the same network without pretraining. A tiny SIGMA-MLP was trained for "
        f"{how_long([sigma])} on {len(FOOTAGE)} clips: {footage}. Its losses, masks and prototypes are shown on clips "
        "it was trained on; useful features need far longer training. All accuracies are on held-out videos; "
        "none reproduces a published result."
    )
    images = "".join(
        f"<h2>{html.escape(title)}</h2><img src='{path.name}' style='max-width:100%'>"
        for title, path in pictures.items()
    )
    page = output / "index.html"
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><title>tubelets quickstart</title><body style='font-family:sans-serif;"
        f"max-width:1100px;margin:auto'><h1>tubelets quickstart</h1><p>{html.escape(what)}</p>{images}</body>",
        encoding="utf-8",
    )
    return page


def main() -> None:
    """Run all steps and print their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "quickstart", help="output folder")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of SIGMA")
    parser.add_argument(
        "--contrast-steps", type=int, nargs=2, default=(110, 190), help="optimiser steps of Tubelet-Contrast's stages"
    )
    parser.add_argument("--clips", type=int, default=2048, help="training clips of the benchmark")
    parser.add_argument("--finetuning-steps", type=int, default=60, help="optimiser steps of each fine-tuning")
    parser.add_argument("--fresh", action="store_true", help="delete the results of an earlier run")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    if arguments.fresh:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)

    started = time.perf_counter()

    def announce(number: int, what: str) -> None:
        print(f"{number}/6 {what} ({time.perf_counter() - started:.0f} s so far)", flush=True)

    announce(1, "footage: fetch, check, shard")
    shards = make_shards(output)
    benchmark = make_benchmark(output, arguments.clips)
    announce(2, "pretrain a tiny SIGMA")
    sigma = pretrain("sigma_tiny_demo", shards, output / "model", arguments.steps)
    announce(3, "reload it in a new process and extract features")
    video = next(clip for clip in FOOTAGE if clip.label == SHOWN).local_path()
    subprocess.run([sys.executable, ROOT / "scripts/extract_features.py", sigma, video], check=True)
    announce(4, "pretrain a small Tubelet-Contrast without labels")
    contrast = pretrain_contrast(benchmark, output, arguments.contrast_steps)
    announce(5, "evaluate on CameraMotion-8")
    scores = evaluate(contrast[-1], benchmark, output, arguments.clips, arguments.finetuning_steps)
    announce(6, "pictures")
    pictures = {
        "How does the camera move? 8 classes, held-out videos": save_scores(
            scores,
            1 / len(CAMERA_MOTIONS),
            output / "scores.png",
            "Tubelet-Contrast on CameraMotion-8, held-out videos",
        )
    }
    pictures |= draw(output / "model", output)
    page = write_page(pictures, sigma, contrast, output)
    print_scores(scores)
    print(f"done in {time.perf_counter() - started:.0f} s; open {page}")


if __name__ == "__main__":
    main()
