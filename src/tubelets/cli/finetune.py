r"""Fine-tune or probe a model for a task, and test it; the same command again resumes an interrupted run.

RECIPE is the name of a recipe of the package or a YAML or JSON file; it may be left out. Flags override it. The model
is a folder or Hub id, of this package or of transformers; the data are shards, class folders, lists or a Hub data set.

  tubelets finetune sigma_vit_b_finetune_ssv2 --model_name_or_path runs/mine/final --dataset_name shards \
      --output_dir runs/mine-finetuned
  tubelets finetune --model_name_or_path MCG-NJU/videomae-base --train_dir videos/train --validation_dir videos/test \
      --do_train --do_eval --base_learning_rate 1e-3 --output_dir runs/mine
  tubelets finetune --task audio-classification --help data

In several processes, with a file that `tubelets copy eight_gpus` makes:
  accelerate launch --config_file eight_gpus.yaml -m tubelets finetune sigma_vit_b_finetune_ssv2 ...

Learning rates are given for 256 clips per step and scaled. The machine's accelerator is used if it has one, and
bfloat16 where it computes it (`--precision`). SIGTERM and SIGINT save first. `tubelets copy` lists recipes.
"""

import argparse

from tubelets.cli.parser import UsageError, Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    from tubelets.training.finetuning_help import finetuning_sections

    verb.take_words("[RECIPE] [--field VALUE ...]", finetuning_sections(verb.given))


def run(options: argparse.Namespace) -> int:
    """Fine-tune.

    Args:
        options: with `words`, the command line.

    Returns:
        The exit code.

    Raises:
        UsageError: if there is nothing on the command line.
    """
    if not options.words:
        raise UsageError("give a recipe, or flags such as --model_name_or_path, --dataset_name and --output_dir")
    from tubelets.cli.scripts import run_script

    return run_script("run_finetuning", options.words)
