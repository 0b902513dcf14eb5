"""Measure how well video models generalise: experiments of the SEVERE benchmark, several seeds, one report.

MODEL is a folder or Hub id, or NAME=folder. Every model is fine-tuned (probed in experiments that end in `-linear`) on
the data sets in `--data`, a folder with shards for each, named ucf101, gym99, fx_s1, ub_s1, ssv2, ntu60 and so on. CNNs
follow the papers' protocol, 32 frames of 112 pixels. The papers publish none for transformers; the one used here is
ours. Subsets of N samples are the published ones if a data set's folder has annotation_order.txt, the ids of its
training clips in the order of the annotation file; otherwise the ids are sorted, and the report says so.

An interrupted run continues. The output folder gets the runs, a JSON file for each result, and a report beside
published methods: `index.html`, `severe.md`, `radar.png`, `ranks.png`.

  tubelets severe runs/mine/final --data severe-data --output_dir runs/severe --experiments fx-s1 ub-s1 gym99-1000
  tubelets severe a=runs/a/final b=runs/b/final --data severe-data --output_dir runs/severe --experiments domain-shift
  tubelets severe --output_dir runs/severe --report_only
"""

import argparse
from pathlib import Path

from tubelets.cli.parser import UsageError, Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("models", metavar="MODEL", nargs="*", help="folder or Hub id, or NAME=folder")
    verb.add("--data", type=Path, help="folder with a folder of shards for each data set")
    verb.add("--output_dir", type=Path, help="folder of all runs, results and the report")
    verb.add("--experiments", nargs="+", help="names, factors, benchmark or all; see --list")
    verb.add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of every experiment")
    verb.add("--subset_seed", type=int, default=99999, help="seed of the subsets of N samples")
    verb.add("--minutes", type=float, help="begin no experiment after this many minutes")
    verb.add("--finetune", nargs="+", default=[], metavar="NAME=VALUE", help="fields of the recipes to change")
    verb.add("--paper", default="SEVERE++ 2025", help="whose numbers to show beside the results, or none")
    verb.add("--rank_as_published", action="store_true", help="rank repetition counting as the papers printed it")
    verb.add("--report_only", action="store_true", help="write the report of the results that exist")
    verb.add("--list", action="store_true", help="print the experiments, and do nothing else")


def run(options: argparse.Namespace) -> int:
    """Run experiments and write the report.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.evaluation.severe.experiments import select_experiments
    from tubelets.evaluation.severe.report import write_severe_report
    from tubelets.evaluation.severe.results import read_severe_results
    from tubelets.evaluation.severe.runner import OutOfTimeError, SevereRunner

    if options.list:
        return _list_experiments()
    if options.output_dir is None:
        raise UsageError("give --output_dir, the folder of runs and report")
    output = options.output_dir.resolve()
    if not options.report_only:
        if not options.models or options.data is None:
            raise UsageError("give at least one MODEL, and --data, the folder of the data sets' shards")
        if not options.experiments:
            raise UsageError("give --experiments; --list prints them")
        named = dict(_named(model) for model in options.models)
        if len(named) < len(options.models):
            raise UsageError("two models have the same name; give each one of its own, as NAME=folder")
        overrides = dict(_field(word) for word in options.finetune)
        runner = SevereRunner(
            named, options.data.resolve(), output, options.subset_seed, overrides, minutes=options.minutes
        )
        experiments = select_experiments(options.experiments)
        runner.check(experiments)
        total, done = len(experiments) * len(named) * len(options.seeds), 0
        try:
            for experiment in experiments:
                for seed in options.seeds:
                    for model in named:
                        value = runner.run(experiment, model, seed).value
                        done += 1
                        print(f"{done}/{total} {experiment.name}, {model}, seed {seed}: {value:.3g}", flush=True)
        except OutOfTimeError as ended:
            print(f"{done} of {total} results: {ended}")
    results = read_severe_results([output / "runs"])
    paper = None if options.paper == "none" else options.paper
    page = write_severe_report(results, output, paper=paper, rank_as_published=options.rank_as_published)
    print((output / "severe.md").read_text(encoding="utf-8"))
    print(f"wrote {page}")
    return 0


def _list_experiments() -> int:
    from tubelets.evaluation.severe.experiments import BENCHMARK, DATA_SETS, EXPERIMENTS

    for experiment in EXPERIMENTS.values():
        data = DATA_SETS[experiment.data_set]
        star = "*" if experiment.name in BENCHMARK else " "
        print(f"{star} {experiment.name:18} {experiment.factor:18} {experiment.data_set:12} {data.name}")
    print("* one of the eight of the benchmark")
    return 0


def _named(model: str) -> tuple[str, str]:
    """Name and place of a model."""
    name, equals, where = model.partition("=")
    if equals:
        return name, where
    path = Path(model)
    return (path.parent if path.name == "final" else path).name, model


def _field(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"--finetune takes NAME=VALUE, got {word!r}")
    return name, value
