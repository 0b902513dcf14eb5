"""Pretrain a model from a recipe, or resume a run: the same command again continues where it stopped.

RECIPE is the name of a recipe of the package or a YAML file; `tubelets copy` lists the recipes, and copies one to edit.
Any field can be changed with `--section.field VALUE`; values are YAML. `--output_dir` is short for `--run.output_dir`.

  tubelets pretrain sigma_tiny_demo --data.path shards --output_dir runs/demo
  tubelets pretrain sigma_vit_b_k400 --data.path shards --output_dir runs/mine --optimization.epochs 100
  tubelets pretrain my_recipe.yaml --output_dir runs/mine --run.batch_size 16 --evaluation.path labelled-shards

In several processes, with a file that `tubelets copy eight_gpus` makes:
  accelerate launch --config_file eight_gpus.yaml -m tubelets pretrain sigma_vit_b_k400 --data.path shards ...

A run needs `data.path` and an output folder, which gets checkpoints, the log and, in `final`, the model. The machine's
accelerator is used if it has one, and bfloat16 where it computes it (`run.precision`). SIGTERM and SIGINT save first.
"""

import argparse

from tubelets.cli.parser import UsageError, Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    from tubelets.training.recipe import recipe_sections

    verb.take_words("RECIPE [--section.field VALUE ...]", recipe_sections())


def run(options: argparse.Namespace) -> int:
    """Run the recipe.

    Args:
        options: with `words`, the command line.

    Returns:
        The exit code.

    Raises:
        UsageError: if no recipe is named.
    """
    if not options.words or options.words[0].startswith("-"):
        raise UsageError("the first word must be RECIPE, a name such as sigma_vit_b_k400 or a YAML file")
    from tubelets.cli.scripts import run_script

    return run_script("run_pretraining", options.words)
