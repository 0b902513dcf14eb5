"""The main job on real footage: fetch, shard, pretrain a tiny SIGMA, reload it, measure and draw what it learned.

`scripts/quickstart.sh` makes the environment and calls this. Running it again continues where it stopped; `--fresh`
starts anew. Everything is written below `--output`, fetched footage into the cache folder.
"""

import argparse
import html
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForPreTraining

from tubelets.data.annotations import VideoRecord, find_class_names
from tubelets.data.assets import FOOTAGE, fetch
from tubelets.data.camera_motion import CAMERA_MOTIONS
from tubelets.data.decoding import read_clip
from tubelets.data.shards import build_shards
from tubelets.data.transcoding import TranscodeOptions
from tubelets.data.transforms import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation.frozen import headline
from tubelets.masking import build_mask_generator
from tubelets.models.sigma.modeling_sigma import SigmaForPreTraining
from tubelets.training.logging import read_log
from tubelets.visualization import save_assignments, save_masks, save_scores, save_training_curves

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "exercise"


def run(*command: str | Path) -> None:
    """Run a command of this repository with this Python, showing it first."""
    words = [str(word) for word in command]
    print(f"$ python {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT)


def make_shards(output: Path) -> Path:
    """Fetch the footage and write it as Parquet shards."""
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


def pretrain(shards: Path, output: Path, steps: int) -> Path:
    """Pretrain the demonstration recipe; continues an interrupted run."""
    recipe = "training/recipes/sigma_tiny_demo.yaml"
    model = output / "model"
    run("training/run_pretraining.py", recipe, "--data.path", shards, "--run.output_dir", model,
        "--optimization.max_steps", str(steps))  # fmt: skip
    return model


def draw(model_folder: Path, output: Path) -> dict[str, Path]:
    """Loss curves, masks over frames, and prototype assignments over frames."""
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


def evaluate(model_folder: Path, output: Path, clips: int, steps: int) -> dict[str, dict[str, float]]:
    """Frozen probes and few-label fine-tuning on CameraMotion-8: the pretrained model and its random twin.

    Args:
        model_folder: the pretrained model.
        output: folder of everything that is made.
        clips: training clips of the benchmark; half as many are scored. Up to 16 of each class have a label.
        steps: optimiser steps of a fine-tuning.

    Returns:
        Top-1 accuracies by model and measure.
    """
    benchmark, report = output / "camera_motion", output / "evaluation"
    shots = min(16, clips // len(CAMERA_MOTIONS))
    run("scripts/make_benchmarks.py", "camera-motion", benchmark,
        "--train-clips", str(clips), "--test-clips", str(clips // 2))  # fmt: skip
    if not (report / "frozen.json").exists():
        run("scripts/evaluate_frozen.py", model_folder, benchmark, report, "--sampling", "uniform",
            "--pooling", "tokens", "--shots", str(shots), "--random-twin")  # fmt: skip
    results = json.loads((report / "frozen.json").read_text(encoding="utf-8"))["results"]
    scores = {name: headline(result) for name, result in results.items()}
    for name, folder in (("checkpoint", model_folder), ("random weights", report / "random_twin")):
        tuned = output / "finetuning" / folder.name
        if not (tuned / "all_results.json").exists():
            run("training/run_video_classification.py", "training/recipes/study_finetune_few_labels.yaml",
                "--model_name_or_path", folder, "--dataset_name", benchmark, "--output_dir", tuned,
                "--shots_per_class", str(shots), "--max_steps", str(steps))  # fmt: skip
        found = json.loads((tuned / "all_results.json").read_text(encoding="utf-8"))
        scores[name][f"{shots}-shot fine-tuning"] = found["test_top_1"]
    return {"pretrained": scores["checkpoint"], "random weights": scores["random weights"]}


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """A table of accuracies, with chance."""
    print(f"CameraMotion-8, held-out videos, top-1 accuracy; chance {1 / len(CAMERA_MOTIONS):.1%}")
    for measure in scores["pretrained"]:
        print(f"  {measure:20}" + "".join(f"{name} {values[measure]:6.1%}   " for name, values in scores.items()))


def write_page(pictures: dict[str, Path], model_folder: Path, output: Path) -> Path:
    """An HTML page with the pictures and what was trained on what."""
    summary = json.loads((model_folder / "final" / "training_summary.json").read_text(encoding="utf-8"))
    footage = ", ".join(f"{clip.label} ({clip.description})" for clip in FOOTAGE)
    what = (
        f"A tiny SIGMA-MLP was trained for {summary['steps']} steps ({summary['clips_seen']} clips, "
        f"{summary['seconds']:.0f} seconds on {summary['device']}) on {len(FOOTAGE)} clips: {footage}. "
        "Losses, masks and prototypes are shown on clips it was trained on, the accuracies are on videos it never saw. "
        "This shows that the parts work together; it is far too little training and data for useful features, and no "
        "number here is one of the paper's."
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
    """Do all steps and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "quickstart", help="folder for everything made")
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps")
    parser.add_argument("--clips", type=int, default=512, help="training clips of the benchmark")
    parser.add_argument("--finetuning-steps", type=int, default=100, help="optimiser steps of each fine-tuning")
    parser.add_argument("--fresh", action="store_true", help="remove what an earlier run made")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    if arguments.fresh:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)

    started = time.perf_counter()
    print("1/5 footage: fetch, check, shard", flush=True)
    shards = make_shards(output)
    print(f"2/5 pretraining ({time.perf_counter() - started:.0f} s so far)", flush=True)
    model = pretrain(shards, output, arguments.steps)
    print(
        f"3/5 reload in a new process and extract features ({time.perf_counter() - started:.0f} s so far)", flush=True
    )
    video = next(clip for clip in FOOTAGE if clip.label == SHOWN).local_path()
    run("scripts/extract_features.py", model / "final", video)
    print(f"4/5 what was learned, on CameraMotion-8 ({time.perf_counter() - started:.0f} s so far)", flush=True)
    scores = evaluate(model / "final", output, arguments.clips, arguments.finetuning_steps)
    print(f"5/5 pictures ({time.perf_counter() - started:.0f} s so far)", flush=True)
    pictures = draw(model, output)
    pictures["Which way does the camera move? Videos that were not seen before; 8 classes"] = save_scores(
        scores, 1 / len(CAMERA_MOTIONS), output / "scores.png", "CameraMotion-8, held-out videos"
    )
    page = write_page(pictures, model, output)
    print_scores(scores)
    print(f"done in {time.perf_counter() - started:.0f} s; open {page}")


if __name__ == "__main__":
    main()
