"""Evaluate frozen features on labelled data: kNN, linear, attentive and few-shot probes, retrieval, effective rank.

CHECKPOINT is a folder or Hub id of a video or an audio model. DATA are labelled shards, class folders, a csv or list of
files, or a Hub data set. The output folder gets `frozen.json` with all numbers, `frozen.png` with the main ones, and
the features, so that an interrupted extraction resumes. --random_twin also evaluates the same architecture with random
weights, the baseline for what was learned.

A model of videos and texts is measured without training on the test split: retrieval in both directions if the videos
have captions, and classification by prompts with the names of classes if they have labels. Ranks are computed in
blocks: 200 MB beside the embeddings, whatever the number of videos and captions.

  tubelets benchmarks camera-motion --output_dir benchmarks/camera_motion
  tubelets evaluate runs/model/final benchmarks/camera_motion --output_dir evaluation --sampling uniform
  tubelets evaluate runs/retrieval msrvtt_shards --output_dir evaluation --sampling uniform
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tubelets.cli.parser import Verb

# Written here again because the modules that define them import torch; a test compares them.
SAMPLING = (
    *("dense", "jittered", "finetune", "segment", "interval"),
    *("dense_test", "segment_test", "interval_test", "uniform"),
)
POOLING = ("own", "tokens")


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("checkpoint", metavar="CHECKPOINT", help="folder or Hub id of a model")
    verb.add("data", metavar="DATA", help="labelled shards, class folders, a csv or list of files, or a Hub data set")
    verb.add("--output_dir", type=Path, required=True, help="folder for features, frozen.json and frozen.png")
    verb.add("--random_twin", action="store_true", help="also evaluate random weights")
    add = verb.section("data", "splits, and how frames are taken from a video")
    add("--train_split", default="train", help="split that neighbours and probes learn from")
    add("--test_split", default="test", help="split that is scored")
    add("--sampling", choices=SAMPLING, default="dense_test", help="which frames make a clip")
    add("--stride", type=int, default=4, help="distance between the frames of a dense clip, in video frames")
    add = verb.section("measures", "probes, neighbours and their seeds")
    add("--pooling", choices=POOLING, default="own", help="'tokens' adds the attentive probe")
    add("--k", type=int, default=200, help="neighbours of the kNN classifier")
    add("--shots", type=int, nargs="*", default=[1, 4, 16], help="labelled clips per class of the few-shot probes")
    add("--draws", type=int, default=5, help="random draws of the few-shot probes")
    add("--seed", type=int, default=0, help="seed of draws, attentive probe and random weights")
    add("--dual_softmax", type=float, help="temperature of a dual softmax over all queries of a retrieval test")
    add("--rerank", type=int, default=128, help="candidates of a query that a fusion encoder re-ranks; 0 re-ranks none")
    add = verb.section("work", "batches, processes, precision; the machine's accelerator is used if it has one")
    add("--batch_size", type=int, default=16, help="clips in a forward pass")
    add("--num_workers", type=int, default=2, help="decoding processes")
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 computes features in bfloat16 (autocast)")


def run(options: argparse.Namespace) -> int:
    """Evaluate, and write the report.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.evaluation.frozen import headline
    from tubelets.evaluation.joint_space import reads_text
    from tubelets.models.common.safe_loading import load_config

    if reads_text(load_config(options.checkpoint)):
        return measure_with_text(options)

    from tubelets.info import package_versions
    from tubelets.visualization.evaluation import save_scores

    results = measure(options)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    report = {"results": results, "settings": settings, "versions": package_versions()}
    (options.output_dir / "frozen.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    chance = results["checkpoint"]["chance"]
    save_scores(
        {name: headline(result) for name, result in results.items()},
        chance,
        options.output_dir / "frozen.png",
        f"frozen features on {Path(options.data).name}, {results['checkpoint']['num_test']} test clips",
    )
    for name, result in results.items():
        numbers = ", ".join(f"{title} {value:.1%}" for title, value in headline(result).items())
        print(f"{name}: {numbers}, effective rank {result['effective_rank']:.1f}")
    print(f"chance {chance:.1%}; wrote {options.output_dir / 'frozen.json'} and {options.output_dir / 'frozen.png'}")
    return 0


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Results of the checkpoint and, if asked for, of its random twin."""
    import torch

    from tubelets.evaluation.checkpoints import evaluate_checkpoint, save_random_twin

    models = {"checkpoint": options.checkpoint}
    if options.random_twin:
        models["random weights"] = save_random_twin(
            options.checkpoint, options.output_dir / "random_twin", options.seed
        )
    return {
        name: evaluate_checkpoint(
            model,
            options.data,
            frozen={"k": options.k, "shots": options.shots, "draws": options.draws, "seed": options.seed},
            splits=(options.train_split, options.test_split),
            sampling=options.sampling,
            stride=options.stride,
            pooling=options.pooling,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            precision=torch.bfloat16 if options.precision == "bf16" else torch.float32,
            cache_dir=options.output_dir / "features",
        )
        for name, model in models.items()
    }


def measure_with_text(options: argparse.Namespace) -> int:
    """Measure a model of videos and texts, write `video_text.json` and print the numbers."""
    import torch

    from tubelets.data.sources.opening import open_source
    from tubelets.evaluation.joint_space import evaluate_retrieval, evaluate_zero_shot

    precision = torch.bfloat16 if options.precision == "bf16" else torch.float32
    work: dict[str, Any] = {
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "precision": precision,
    }
    known = set(open_source(options.data, split=options.test_split).annotations)
    results: dict[str, dict[str, float]] = {}
    if {"caption", "captions"} & known:
        fields: dict[str, Any] = {
            "dual_softmax": options.dual_softmax,
            "rerank": options.rerank or None,
            "stride": options.stride,
        }
        results["retrieval"] = evaluate_retrieval(
            options.checkpoint,
            options.data,
            options.output_dir,
            split=options.test_split,
            test_sampling=options.sampling,
            **fields,
            **work,
        )
    if "label" in known:
        frames = {"split": options.test_split, "sampling": options.sampling, "stride": options.stride}
        cache = options.output_dir / "features"
        results["zero_shot"] = evaluate_zero_shot(options.checkpoint, options.data, **frames, **work, cache_dir=cache)
    if not results:
        raise ValueError(f"{options.data} has neither captions nor labels; one of them is needed to measure anything")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    path = options.output_dir / "video_text.json"
    path.write_text(json.dumps({"results": results}, indent=2) + "\n", encoding="utf-8")
    for name, found in results.items():
        shown = ", ".join(f"{title} {value:.4g}" for title, value in found.items())
        print(f"{name.replace('_', ' ')}: {shown}")
    print(f"wrote {path}")
    return 0
