"""Publish a finished run on the Hub: weights, configuration, processor, recipe, log, metrics and a complete card.

The folder is built and checked locally, then pushed in one commit: a broken connection leaves the repository unchanged.
The access token comes from `hf auth login` or the environment variable HF_TOKEN.

Examples:
  python scripts/push_checkpoint.py runs/k400 user/sigma-k400 --license cc-by-nc-4.0 --dataset kinetics400
  python scripts/push_checkpoint.py runs/ucf user/sigma-ucf --license cc-by-4.0 --results severe.json --tag v1
  python scripts/push_checkpoint.py runs/ucf user/sigma-ucf --license cc-by-4.0 --dry-run --output to_publish

A --results file is a JSON list of objects such as
  {"dataset": "ucf101", "split": "test", "metric": "accuracy", "metric_name": "top-1 accuracy", "value": 0.91,
   "protocol": "5 clips x 3 crops", "source": "https://arxiv.org/abs/..."}
dataset, metric and value are required; a result without a source counts as measured by this run.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.hub.cards import CardDetails
from tubelets.hub.finished_runs import PublishingError, RunFolder
from tubelets.hub.publishing import Publication, build_publication, publish
from tubelets.hub.results import ResultsError, read_results


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output folder of a training script, or the folder of a model")
    parser.add_argument("repository", help="Hub id, user/name")
    parser.add_argument("--license", required=True, help="licence of the weights, e.g. apache-2.0")
    card = parser.add_argument_group("card")
    card.add_argument("--results", type=Path, nargs="+", default=[], help="JSON files of evaluation results")
    card.add_argument("--dataset", dest="datasets", nargs="+", default=[], help="Hub ids of the training data")
    card.add_argument("--data", help="description of the training data, one or two sentences")
    card.add_argument("--base-model", help="Hub id of the model used for initialisation")
    card.add_argument("--hardware", help="training hardware, e.g. '8 x A100, 31 hours'")
    card.add_argument("--limits", help="known limitations, one or two sentences")
    card.add_argument("--class-names", type=Path, help="file with one class name per line, if the model has none")
    hub = parser.add_argument_group("Hub")
    hub.add_argument("--private", action="store_true", default=None, help="create a private repository")
    hub.add_argument("--revision", help="branch to commit to, created if needed")
    hub.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    hub.add_argument("--tag", help="tag the commit, e.g. v1.0")
    hub.add_argument("--message", help="commit message")
    parser.add_argument("--max-shard-size", default="5GB", help="maximum size of a weight file")
    parser.add_argument("--dry-run", action="store_true", help="build and check the folder without pushing it")
    parser.add_argument("--output", type=Path, help="keep the built folder here")
    return parser.parse_args(arguments)


def build(options: argparse.Namespace, folder: Path) -> Publication:
    """Build the publication."""
    details = CardDetails(
        license=options.license,
        datasets=options.datasets,
        data=options.data,
        base_model=options.base_model,
        hardware=options.hardware,
        limits=options.limits,
    )
    names = None
    if options.class_names is not None:
        names = [line.strip() for line in options.class_names.read_text(encoding="utf-8").splitlines() if line.strip()]
    return build_publication(
        RunFolder.find(options.run),
        folder,
        options.repository,
        details,
        read_results(options.results),
        names,
        options.max_shard_size,
        options.revision,
    )


def main(arguments: list[str] | None = None) -> int:
    """Build, check and publish; return the exit code."""
    options = parse_arguments(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            publication = build(options, options.output or Path(temporary))
            for name, size in publication.files.items():
                print(f"{size:>12,} {name}")
            if options.dry_run:
                print(publication.card)
                print(f"dry run: nothing was pushed; {publication.model_class} is ready for {options.repository}")
                return 0
            address = publish(
                publication,
                options.repository,
                private=options.private,
                revision=options.revision,
                create_pr=options.create_pr,
                tag=options.tag,
                message=options.message,
            )
    except (PublishingError, ResultsError, FileNotFoundError) as error:
        print(f"push_checkpoint: {error}", file=sys.stderr)
        return 2
    print(f"published {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
