r"""Pretrain a model of this package from a recipe; read it from top to bottom, copy it, change it.

Example:
    tubelets pretrain sigma_tiny_demo --data.path shards --output_dir runs/demo
    accelerate launch --config_file eight_gpus.yaml -m tubelets pretrain sigma_vit_b_k400 \
        --data.path /data/k400 --output_dir runs/k400
    python run_pretraining.py my_recipe.yaml --data.path shards --output_dir runs/mine

The last line runs a copy of this file, which `tubelets copy run_pretraining` makes. Any field of the recipe can be
overridden with `--section.field value`; `--help` lists the sections, `--help optimization` the fields of one. Run the
same command again to resume an interrupted run; the losses match an uninterrupted run exactly. `--extend` with more
epochs or steps continues a finished run. SIGTERM, SIGINT, SIGUSR1 and SIGUSR2, sent to the process or its group, save a
checkpoint first. `--evaluation.path SHARDS` evaluates frozen features on labelled shards during training.
"""

import itertools
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import ProjectConfiguration, set_seed

from tubelets.evaluation.online import OnlineEvaluation
from tubelets.hub.cards import render_run_card
from tubelets.info import package_versions
from tubelets.training.acceleration import (
    choose_convolutions,
    choose_precision,
    compile_model,
    data_parallel_settings,
    enable_checkpointing,
    keep_own_buffers,
    take_over_checkpointing,
)
from tubelets.training.checkpointing import (
    check_writable,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tubelets.training.command_line import asked_for_help, recorded
from tubelets.training.optimization import build_optimizer, plan_run
from tubelets.training.pretraining import (
    build_loader,
    build_model,
    clips_per_epoch,
    save_final,
    second_part,
    synchronize_batch_norm,
)
from tubelets.training.recipe import Recipe, load_recipe, recipe_help
from tubelets.training.resuming import check_length, check_same_data, check_same_recipe
from tubelets.training.run_log import TrainingLog
from tubelets.training.stopping import StopRequest

logger = logging.getLogger("tubelets.training")


def build_evaluation(recipe: Recipe, model: Any, accelerator: Accelerator) -> OnlineEvaluation | None:
    """The evaluation of features during training, if the recipe asks for it."""
    if recipe.evaluation.path is None:
        return None
    if accelerator.distributed_type == DistributedType.FSDP:
        raise ValueError(
            "evaluation.path is set, but the main process alone cannot run a model that is sharded with FSDP; leave it "
            "out and run `tubelets evaluate` on the saved model"
        )
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.run.precision]
    return OnlineEvaluation(recipe.evaluation, model.config, precision)


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe that the words of the command line name."""
    words = sys.argv[1:] if words is None else words
    asked, section = asked_for_help(words)
    if asked or not words:
        print(recipe_help(section) if section else f"{__doc__}\n{recipe_help()}")
        return
    recipe = load_recipe(words[0], words[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = StopRequest()
    stop.listen()

    # Build -----------------------------------------------------------------------------------------------------------
    run, optimization = recipe.run, recipe.optimization
    run.precision = choose_precision(run.precision)
    output_dir = Path(run.output_dir)
    check_writable("run.output_dir", output_dir)
    checkpoint = find_checkpoint(run.output_dir, run.resume)
    earlier = None if checkpoint is None else check_same_recipe(checkpoint, recipe.to_dict())
    model = build_model(recipe)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no" if run.precision == "fp32" else run.precision,
        log_with=run.trackers or None,
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "trackers")),
        kwargs_handlers=[data_parallel_settings()],
    )
    if take_over_checkpointing(accelerator):
        enable_checkpointing(model)
    choose_convolutions(model, accelerator.device)
    loader = build_loader(recipe, model.config, accelerator)
    finish = second_part(recipe, model.config)
    evaluation = build_evaluation(recipe, model, accelerator)
    plan = plan_run(optimization, clips_per_epoch(recipe, loader), run.batch_size, accelerator.num_processes)
    accelerator.gradient_accumulation_steps = plan.accumulation
    set_seed(run.seed, device_specific=True)
    if run.sync_batch_norm:
        model = synchronize_batch_norm(model, accelerator)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    optimizer = build_optimizer(model, optimization, plan.schedule(0), sharded)
    model, optimizer = accelerator.prepare(model, optimizer)
    keep_own_buffers(model)
    if run.compile:
        compile_model(model)
    if accelerator.is_main_process:
        logger.info(
            "%d videos, %d steps per epoch, %d steps, %d processes x %d clips x %d accumulated, learning rate %.3g",
            clips_per_epoch(recipe, loader) // recipe.data.clips_per_video,
            plan.steps_per_epoch,
            plan.total_steps,
            accelerator.num_processes,
            run.batch_size,
            plan.accumulation,
            plan.schedule.learning_rate,
        )

    # Resume ----------------------------------------------------------------------------------------------------------
    step, seconds_before = 0, 0.0
    if checkpoint is not None and earlier is not None:
        check_length(earlier["step"], plan.total_steps, run.extend)
        check_same_data(earlier, loader.stream.source, recipe.data.path)
        state, loader_state = load_checkpoint(accelerator, checkpoint)
        loader.load_state_dict(loader_state)
        step, seconds_before = state["step"], state["seconds"]
        logger.info("resumed from %s", checkpoint)
    fingerprints = loader.stream.source.fingerprints() if accelerator.is_main_process else {}
    # After a refused resume the folder still holds the recipe that its checkpoints belong to.
    if accelerator.is_main_process:
        recipe.save(output_dir / "recipe.yaml")
    accelerator.init_trackers(run.project, config={"recipe": str(recipe.to_dict())})
    log = TrainingLog(accelerator, output_dir / "training_log.jsonl", step, plan.total_steps, plan.accumulation)
    started = time.perf_counter()

    def save() -> None:
        state = {
            "step": step,
            "seconds": seconds_before + time.perf_counter() - started,
            "recipe": recipe.to_dict(),
            "data": fingerprints,
            "versions": package_versions(),
        }
        save_checkpoint(accelerator, output_dir, state, loader.state_dict(), run.keep_checkpoints)

    # Train -----------------------------------------------------------------------------------------------------------
    batches = iter(loader)
    while step < plan.total_steps:
        for group in optimizer.param_groups:
            group["lr"] = plan.schedule(step)
        for batch in itertools.islice(batches, plan.accumulation):
            with accelerator.accumulate(model):
                inputs = {
                    name: value.to(accelerator.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                    for name, value in batch.items()
                }
                output = model(**finish(inputs))
                accelerator.backward(output.loss)
                if accelerator.sync_gradients and optimization.max_gradient_norm is not None:
                    accelerator.clip_grad_norm_(model.parameters(), optimization.max_gradient_norm)
                optimizer.step()
                optimizer.zero_grad()
            log.micro_batch(output, run.batch_size)
        step += 1
        log.step()
        log.bad_samples(loader.bad_samples, loader.num_skipped)
        values = {"epoch": step / plan.steps_per_epoch, "learning_rate": plan.schedule(step - 1)}
        evaluating = evaluation is not None and evaluation.is_due(step, plan.total_steps)
        if evaluation is not None and evaluating:
            with log.paused():
                if accelerator.is_main_process:
                    values |= evaluation(accelerator.unwrap_model(model))
                accelerator.wait_for_everyone()
        if evaluating or step % run.logging_steps == 0 or step == plan.total_steps:
            log.write(step, values)
        stopping = stop.agreed(accelerator.device)
        if step % run.save_steps == 0 or stopping or step == plan.total_steps:
            save()
        if stopping and step < plan.total_steps:
            logger.info("asked to stop: saved step %d; run the same command again to resume", step)
            log.close()
            accelerator.end_training()
            return
    log.close()

    # Save ------------------------------------------------------------------------------------------------------------
    summary = {
        "steps": step,
        "clips_seen": step * optimization.global_batch_size,
        "epochs": step / plan.steps_per_epoch,
        "seconds": seconds_before + time.perf_counter() - started,
        "skipped_videos": log.skipped,
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "command": recorded("pretrain", words),
    }
    card = render_run_card(
        output_dir.name,
        recipe.to_dict(),
        summary,
        package_versions(),
        accelerator.unwrap_model(model).config,
    )
    folder = save_final(recipe, accelerator, model, summary, card)
    if accelerator.is_main_process:
        logger.info("saved %s", folder)
    accelerator.end_training()


if __name__ == "__main__":
    main()
