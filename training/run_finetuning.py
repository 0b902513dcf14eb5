r"""Fine-tune or probe a model for a task, test it, publish it; read it from top to bottom, copy it.

The task follows from the model, or from `--task`: any video, audio or audio-visual model of this package, and any that
an Auto class of the task loads, on shards, a Hub data set, or folders of files; with one or several labels per clip.

Example:
    tubelets finetune sigma_vit_b_finetune_k400 \
        --model_name_or_path runs/k400/final --dataset_name /data/k400 --output_dir runs/k400-finetuned
    tubelets finetune structured_noise_audio_vit_b_finetune_esc50 \
        --model_name_or_path runs/audioset/final --dataset_name /data/esc50 --output_dir runs/esc50
    tubelets finetune --model_name_or_path MCG-NJU/videomae-base \
        --train_dir videos/train --validation_dir videos/test --do_train --do_eval --base_learning_rate 1e-3 \
        --output_dir runs/mine
    python run_finetuning.py my_recipe.yaml --dataset_name shards --output_dir runs/mine

The last line runs a copy of this file, which `tubelets copy run_finetuning` makes. The first argument may be a recipe
by name, or a YAML or JSON file of arguments; flags override it. `--help` lists their sections, `--help data` the fields
of one, with `--task` those of another task. Learning rates are given for 256 clips per step and scaled. Run the same
command again to resume an interrupted run; the losses match an uninterrupted one exactly. `--extend` with more epochs
or steps continues a finished run. SIGTERM, SIGINT, SIGUSR1 and SIGUSR2, sent to the process or its group, save a
checkpoint first. An audio-visual model uses sound, frames or both: `--config_overrides '{"modality": "audio"}'`.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from transformers import set_seed

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.hub.cards import render_finetuning_card
from tubelets.info import package_versions
from tubelets.tasks.registry import task_named
from tubelets.training.checkpointing import check_writable, find_checkpoint
from tubelets.training.command_line import asked_for_help, recorded, render_sections
from tubelets.training.finetuning import FinetuningTrainer
from tubelets.training.finetuning_arguments import parse_finetuning_arguments, run_arguments
from tubelets.training.finetuning_help import finetuning_sections
from tubelets.training.models import build_model, build_processor, stored_class_names
from tubelets.training.stopping import StopRequest

logger = logging.getLogger("tubelets.training")


def main(words: Sequence[str] | None = None) -> None:
    """Run what the words of the command line ask for."""
    words = sys.argv[1:] if words is None else words
    asked, section = asked_for_help(words)
    if asked:
        shown = render_sections(finetuning_sections(words), section)
        print(shown if section else f"{__doc__}\n{shown}")
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    task, model_args, data_args, args = parse_finetuning_arguments(words)
    if not args.should_log:
        logging.getLogger().setLevel(logging.WARNING)
    if not args.do_train and not args.do_eval:
        raise ValueError("nothing to do; give --do_train, --do_eval or both")
    output_dir = Path(args.output_dir)
    check_writable("output_dir", output_dir)

    # Build; a new head has the classes of the data, a stored one numbers them, and the model cuts clips ---------------
    names = stored_class_names(model_args, task, trains=args.do_train)
    data = task.data(data_args, args, model_args.token, names)
    set_seed(args.seed)
    model = build_model(model_args, task, data.config_fields)
    processor = build_processor(model_args, task, model.config)
    data.bind(model.config, processor)

    stop = StopRequest()
    trainer = FinetuningTrainer(model, args, task, data, processing_class=processor, callbacks=[stop])
    checkpoint = None
    if trainer.train_batches is not None:
        checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint, args.world_size)
        if checkpoint is not None:
            trainer.check_resume(checkpoint)
    # After a refused resume the folder still holds the arguments that its checkpoints belong to.
    arguments = run_arguments(model_args, data_args, args)
    if trainer.is_world_process_zero():
        content = {
            "task": data.pipeline_tag,
            "command": recorded("finetune", words),
            "arguments": arguments,
            "versions": package_versions(),
        }
        (output_dir / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    # Train -----------------------------------------------------------------------------------------------------------
    summary: dict[str, float] = {}
    if trainer.train_batches is not None:
        if checkpoint is not None:
            logger.info("resumed from %s", checkpoint)
        logger.info(
            "%d clips, %d steps per epoch of %d clips, learning rate %.3g after the blocks, layer decay %g",
            trainer.train_batches.samples,
            trainer.train_batches.steps_per_epoch,
            args.videos_per_step,
            args.learning_rate,
            args.layer_decay,
        )
        result = trainer.train(None if checkpoint is None else str(checkpoint))
        if stop.stopped:
            logger.info("asked to stop: saved step %d; run the same command again to resume", trainer.state.global_step)
            return
        trainer.average_epochs()
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        summary = {"steps": trainer.state.global_step, **result.metrics}

    # Test with all views, merged --------------------------------------------------------------------------------------
    test_metrics: dict[str, float] = {}
    if args.do_eval:
        metrics = trainer.evaluate("test", metric_key_prefix="test")
        trainer.log_metrics("test", metrics)
        trainer.save_metrics("test", metrics)
        test_metrics = {name.removeprefix("test_"): value for name, value in metrics.items()}
        if trainer.is_world_process_zero() and trainer.scores is not None:
            trainer.scores.save_report(output_dir, output_dir.name)

    # Publish ---------------------------------------------------------------------------------------------------------
    name = args.hub_model_id or output_dir.name
    shown, made_by = task_named(data.pipeline_tag), recorded("finetune", words)
    versions = package_versions()
    card = render_finetuning_card(name, arguments, summary, test_metrics, versions, model.config, shown, made_by)
    if args.push_to_hub:
        trainer.push_to_hub(text=card)
    else:
        trainer.create_model_card(text=card)


if __name__ == "__main__":
    main()
