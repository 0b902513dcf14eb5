"""Evaluate frozen features on labelled data: kNN, linear, attentive and few-shot probes, retrieval, effective rank.

Features are cached in OUTPUT and an interrupted extraction resumes. The script writes `frozen.json` with all numbers
and `frozen.png` with the main ones. --random-twin also evaluates the same architecture with random weights, the
baseline for what was learned.

Examples:
  python scripts/make_benchmarks.py camera-motion benchmarks/camera_motion
  python scripts/evaluate_frozen.py runs/model/final benchmarks/camera_motion evaluation --sampling uniform

The checkpoint is a video or an audio model; --sampling and --stride apply to frames.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

import torch
from transformers import AutoModel

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.data.stream.clip_stream import Sampling
from tubelets.evaluation.checkpoints import checkpoint_features, load_processor, save_random_twin
from tubelets.evaluation.devices import evaluation_device
from tubelets.evaluation.features import Pooling
from tubelets.evaluation.frozen import evaluate_frozen, headline
from tubelets.info import package_versions
from tubelets.models.common.safe_loading import load_model
from tubelets.visualization.evaluation import save_scores


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub id of a model")
    parser.add_argument("data", help="labelled shards, class folders, a csv or list of files, or a Hub data set")
    parser.add_argument("output", type=Path, help="folder for features, frozen.json and frozen.png")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--sampling", choices=get_args(Sampling), default="dense_test", help="default: dense_test")
    parser.add_argument("--stride", type=int, default=4, help="distance between frames, in video frames")
    parser.add_argument("--pooling", choices=get_args(Pooling), default="own", help="'tokens' adds the attentive probe")
    parser.add_argument("--k", type=int, default=200, help="neighbours of the kNN classifier")
    parser.add_argument("--shots", type=int, nargs="*", default=[1, 4, 16], help="labelled clips per class")
    parser.add_argument("--draws", type=int, default=5, help="random draws of the few-shot probes")
    parser.add_argument("--random-twin", action="store_true", help="also evaluate random weights")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="compute features in bfloat16 (autocast)")
    parser.add_argument("--seed", type=int, default=0, help="seed of draws, attentive probe and random weights")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    try:
        processor = load_processor(options.checkpoint)
        models = {"checkpoint": load_model(AutoModel, options.checkpoint)}
        if options.random_twin:
            twin = save_random_twin(options.checkpoint, options.output / "random_twin", options.seed)
            models["random weights"] = load_model(AutoModel, twin)
        results = {}
        for name, model in models.items():
            train, test = checkpoint_features(
                model.to(evaluation_device()),
                processor,
                options.data,
                (options.train_split, options.test_split),
                sampling=options.sampling,
                stride=options.stride,
                pooling=options.pooling,
                batch_size=options.batch_size,
                num_workers=options.num_workers,
                precision=torch.bfloat16 if options.bf16 else torch.float32,
                cache_dir=options.output / "features",
            )
            results[name] = evaluate_frozen(
                train, test, k=options.k, shots=options.shots, draws=options.draws, seed=options.seed
            )
    except (OSError, ValueError) as error:
        print(f"evaluate_frozen: {error}", file=sys.stderr)
        return 2
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    report = {"results": results, "settings": settings, "versions": package_versions()}
    (options.output / "frozen.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    chance = results["checkpoint"]["chance"]
    save_scores(
        {name: headline(result) for name, result in results.items()},
        chance,
        options.output / "frozen.png",
        f"frozen features on {Path(options.data).name}, {results['checkpoint']['num_test']} test clips",
    )
    for name, result in results.items():
        numbers = ", ".join(f"{title} {value:.1%}" for title, value in headline(result).items())
        print(f"{name}: {numbers}, effective rank {result['effective_rank']:.1f}")
    print(f"chance {chance:.1%}; wrote {options.output / 'frozen.json'} and {options.output / 'frozen.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
