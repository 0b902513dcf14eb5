"""Measure whether pretraining helps: several seeds, compared with random weights on held-out footage.

STUDY is the name of a study of the package or a YAML file with benchmarks, pretraining recipes, seeds and evaluation
settings; `tubelets copy` lists the studies, and copies one to edit. For every method and seed the verb pretrains on the
unlabelled clips of the first benchmark. On every benchmark it then evaluates frozen features and fine-tunes with few
labels per class. Each method is paired with its random twin: the same network without pretraining, evaluated on the
same labelled clips.

The output folder gets `study.json`, `study.md` (a table for each benchmark), a figure for each benchmark and
`losses.png`. Run the same command again to resume an interrupted study; completed steps are kept.

  tubelets study masked_pixels --output_dir runs/study
  tubelets study masked_pixels --output_dir runs/quick --seeds 0 --max_steps 200
"""

import argparse
from pathlib import Path

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("study", metavar="STUDY", help="name of a study, or a YAML file")
    verb.add("--output_dir", type=Path, required=True, help="folder of all results")
    verb.add("--variant", help="the variant of the study, such as a smaller one")
    verb.add("--seeds", type=int, nargs="+", help="replace the seeds of the study")
    verb.add("--max_steps", type=int, help="replace the length of each pretraining run, for a quick check")


def run(options: argparse.Namespace) -> int:
    """Run the study, or what is left of it.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.evaluation.studies import Runner, load_study
    from tubelets.evaluation.study_reports import write_report

    study = load_study(options.study, options.variant)
    study.seeds = options.seeds or study.seeds
    runner = Runner(study, options.output_dir.resolve(), options.max_steps)
    runner.build_benchmarks()
    results = [runner.measure(method, seed) for seed in study.seeds for method in study.methods]
    print(write_report(study, results, runner.output))
    print(f"wrote study.json, study.md and figures to {runner.output}")
    return 0
