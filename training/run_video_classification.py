"""Fine-tune or probe a video classifier, test it with several views, publish it; read it from top to bottom, copy it.

Any video model of this package and any that `AutoModelForVideoClassification` knows, on shards, a Hub data set, or
folders of videos.

Example:
    python training/run_video_classification.py training/recipes/sigma_vit_b_finetune_k400.yaml \
        --model_name_or_path runs/k400/final --dataset_name /data/k400 --output_dir runs/k400-finetuned
    python training/run_video_classification.py --model_name_or_path MCG-NJU/videomae-base \
        --train_dir videos/train --validation_dir videos/test --do_train --do_eval --base_learning_rate 1e-3 \
        --output_dir runs/mine

The first argument may be a YAML or JSON file of arguments; flags override it, and `--help` lists them. Learning rates
are given for 256 videos a step and scaled. An interrupted run continues exactly where its last checkpoint is when the
same command is given again; SIGTERM and SIGINT save a checkpoint first.
"""

import json
import logging
import sys
from pathlib import Path

import yaml
from accelerate.utils import gather_object
from transformers import PreTrainedModel, set_seed

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.data.sources.shards import VideoSource
from tubelets.hub.finetuning_card import render_finetuning_card
from tubelets.info import package_versions
from tubelets.tasks.metrics import confusion_matrix, per_class_accuracy
from tubelets.tasks.views import VideoScores, score_videos
from tubelets.training.classifiers import build_classifier, classification_processor, clip_shape
from tubelets.training.finetuning import ClassificationTrainer, StopOnSignal, find_checkpoint
from tubelets.training.finetuning_arguments import parse_finetuning_arguments, run_arguments
from tubelets.training.finetuning_data import (
    ClipBatch,
    EpochBatches,
    batch_augmentation,
    check_same_classes,
    open_part,
    resolve_class_names,
    train_loader,
    videos_per_epoch,
    view_loader,
)
from tubelets.visualization.confusion import save_confusion_matrix

logger = logging.getLogger("tubelets.training")


def main() -> None:
    """Run what the command line asks for."""
    model_args, data_args, args = parse_finetuning_arguments(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO if args.should_log else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    if not args.do_train and not args.do_eval:
        raise ValueError("nothing to do; give --do_train, --do_eval or both")
    output_dir = Path(args.output_dir)

    # Data ------------------------------------------------------------------------------------------------------------
    train_source = open_part(data_args, "train", token=model_args.token) if args.do_train else None
    validated = args.do_eval or args.eval_strategy != "no"
    validation_source = None
    if train_source is not None:
        class_names = resolve_class_names(data_args, train_source)
    if validated:
        names = class_names if train_source is not None else None
        validation_source = open_part(data_args, "validation", names, model_args.token)
        if train_source is None:
            class_names = resolve_class_names(data_args, validation_source)
        check_same_classes(class_names, validation_source, "validation")

    # Model -----------------------------------------------------------------------------------------------------------
    set_seed(args.seed)
    model = build_classifier(model_args, class_names, data_args.multi_label)
    processor = classification_processor(model_args, model.config)
    shape = clip_shape(model.config)
    mean, std = processor.image_mean, processor.image_std

    # Scores of all views of all videos, merged; mean of softmax, or maximum of sigmoid for several labels.
    def score(model: PreTrainedModel, source: VideoSource, clips: int, crops: int) -> tuple[VideoScores, int]:
        loader = view_loader(data_args, args, source, shape, len(class_names), clips, crops)
        merge = "max" if data_args.multi_label else "mean"
        scores = score_videos(model, loader, mean, std, merge=merge, clips_per_forward=args.per_device_eval_batch_size)
        return scores, sum(gather_object([loader.num_skipped]))

    def validate(model: PreTrainedModel) -> dict[str, float]:
        scores, skipped = score(model, validation_source, clips=1, crops=1)
        return {**scores.metrics(), "skipped_videos": float(skipped)}

    # Train -----------------------------------------------------------------------------------------------------------
    batches = None
    if train_source is not None:
        batches = EpochBatches(
            train_loader(data_args, args, train_source, shape, len(class_names)),
            ClipBatch(
                batch_augmentation(data_args, args, len(class_names), mean, std), args.device, model.main_input_name
            ),
            videos_per_epoch(data_args, train_source),
            args,
        )
    stop = StopOnSignal()
    trainer = ClassificationTrainer(
        model,
        args,
        train_batches=batches,
        evaluate_model=validate if validated else None,
        processing_class=processor,
        callbacks=[stop],
    )
    arguments = run_arguments(model_args, data_args, args)
    if trainer.is_world_process_zero():
        output_dir.mkdir(parents=True, exist_ok=True)
        content = {"arguments": arguments, "versions": package_versions()}
        (output_dir / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    summary: dict[str, float] = {}
    if batches is not None:
        checkpoint = args.resume_from_checkpoint or find_checkpoint(output_dir, args.world_size)
        if checkpoint is not None:
            logger.info("resumed from %s", checkpoint)
        logger.info(
            "%d videos, %d steps an epoch of %d videos, learning rate %.3g for the head, layer decay %g",
            videos_per_epoch(data_args, train_source),
            batches.steps_per_epoch,
            args.videos_per_step,
            args.learning_rate,
            args.layer_decay,
        )
        result = trainer.train(None if checkpoint is None else str(checkpoint))
        if stop.received:
            logger.info("asked to stop: saved step %d; give the same command to go on", trainer.state.global_step)
            return
        trainer.average_epochs()
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        summary = {"steps": trainer.state.global_step, **result.metrics}

    # Test ------------------------------------------------------------------------------------------------------------
    test_metrics: dict[str, float] = {}
    if args.do_eval:
        test_source = open_part(data_args, "test", class_names, model_args.token)
        check_same_classes(class_names, test_source, "test")
        found: list[VideoScores] = []

        def test(model: PreTrainedModel) -> dict[str, float]:
            scores, skipped = score(model, test_source, data_args.test_clips, data_args.test_crops)
            found.append(scores)
            return {**scores.metrics(), "skipped_videos": float(skipped)}

        metrics = trainer.evaluate(test, metric_key_prefix="test")
        trainer.log_metrics("test", metrics)
        trainer.save_metrics("test", metrics)
        test_metrics = {name.removeprefix("test_"): value for name, value in metrics.items()}
        if trainer.is_world_process_zero() and not data_args.multi_label:
            scores = found[0]
            accuracies = per_class_accuracy(scores.scores, scores.labels).tolist()
            per_class = {
                name: None if value != value else value for name, value in zip(class_names, accuracies, strict=True)
            }
            (output_dir / "per_class_accuracy.json").write_text(json.dumps(per_class, indent=2), encoding="utf-8")
            matrix = confusion_matrix(scores.scores, scores.labels)
            save_confusion_matrix(matrix, class_names, output_dir / "confusion_matrix.png", output_dir.name)

    # Publish ---------------------------------------------------------------------------------------------------------
    card = render_finetuning_card(
        args.hub_model_id or output_dir.name,
        arguments,
        summary,
        test_metrics,
        package_versions(),
        shape.num_frames,
        len(class_names),
        model.config.model_type,
    )
    if args.push_to_hub:
        trainer.push_to_hub(text=card)
    else:
        trainer.create_model_card(text=card)


if __name__ == "__main__":
    main()
