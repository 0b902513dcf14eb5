"""Publish a finished run on the Hub: weights, configuration, processor, recipe, log, metrics and a complete card.

RUN is the output folder of a training run, or the folder of a model. The folder to publish is built and checked
locally, then pushed in one commit: a broken connection leaves the repository unchanged. The access token comes from
`hf auth login` or the environment variable HF_TOKEN.

  tubelets push runs/k400 user/sigma-k400 --license cc-by-nc-4.0 --dataset kinetics400
  tubelets push runs/ucf user/sigma-ucf --license cc-by-4.0 --results severe.json --tag v1
  tubelets push runs/ucf user/sigma-ucf --license cc-by-4.0 --dry_run --output_dir to_publish
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tubelets.cli.parser import Verb

if TYPE_CHECKING:
    from tubelets.hub.publishing import Publication

RESULTS = """
A --results file is a JSON list of objects such as
  {"dataset": "ucf101", "split": "test", "metric": "accuracy", "metric_name": "top-1 accuracy", "value": 0.91,
   "protocol": "5 clips x 3 crops", "source": "https://arxiv.org/abs/..."}
dataset, metric and value are required; a result without a source counts as measured by this run.
"""


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("run", metavar="RUN", type=Path, help="output folder of a training run, or the folder of a model")
    verb.add("repository", metavar="REPOSITORY", help="Hub id, user/name")
    verb.add("--license", required=True, help="licence of the weights, e.g. apache-2.0")
    verb.add("--dry_run", action="store_true", help="build and check the folder without pushing it")
    verb.add("--output_dir", type=Path, help="keep the built folder here")
    add = verb.section("card", "what the card says about data, results and limits", RESULTS)
    add("--results", type=Path, nargs="+", default=[], help="JSON files of evaluation results")
    add("--dataset", dest="datasets", nargs="+", default=[], help="Hub ids of the training data")
    add("--data", help="description of the training data, one or two sentences")
    add("--base_model", help="Hub id of the model used for initialisation")
    add("--hardware", help="training hardware, e.g. '8 x A100, 31 hours'")
    add("--limits", help="known limitations, one or two sentences")
    add("--class_names", type=Path, help="file with one class name per line, if the model has none")
    add = verb.section("hub", "repository, branch, tag and commit")
    add("--private", action="store_true", default=None, help="create a private repository")
    add("--revision", help="branch to commit to, created if needed")
    add("--create_pr", action="store_true", help="open a pull request instead of committing")
    add("--tag", help="tag the commit, e.g. v1.0")
    add("--message", help="commit message")
    add("--max_shard_size", default="5GB", help="maximum size of a weight file")


def run(options: argparse.Namespace) -> int:
    """Build, check and publish.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.hub.publishing import publish

    with tempfile.TemporaryDirectory() as temporary:
        publication = build(options, options.output_dir or Path(temporary))
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
    print(f"published {address}")
    return 0


def build(options: argparse.Namespace, folder: Path) -> "Publication":
    """Build the publication."""
    from tubelets.hub.cards import CardDetails
    from tubelets.hub.finished_runs import RunFolder
    from tubelets.hub.publishing import build_publication
    from tubelets.hub.results import read_results

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
