"""Skeletons through the common doors: fine-tuning, frozen evaluation, `classify_skeletons`, few labels, recipes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuning import RECIPES, final_metrics, losses, script, words

from tubelets import (
    AutoModelForSkeletonClassification,
    BiGruConfig,
    SkeletonContrastConfig,
    SkeletonContrastForPreTraining,
    classify_skeletons,
)
from tubelets.data.build.data_sets import build_data_set
from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.skeleton_files import Recording, write_recording
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.subsets import FractionSource
from tubelets.evaluation.checkpoints import evaluate_checkpoint
from tubelets.models.backbones.skeleton_networks.processing_skeleton import SkeletonFeatureExtractor
from tubelets.models.common.auto import inference_processor
from tubelets.skeletons import ViewSettings, central_crops, crop_resize, layout_named
from tubelets.tasks.classification.skeleton import SkeletonCollator
from tubelets.training.finetuning_arguments import parse_finetuning_arguments

CLASSES = ["fall", "rise", "still"]
TINY = {"hidden_size": 16, "num_layers": 1}


def recording(label: int, seed: int, frames: int = 40) -> np.ndarray:
    """A body that falls, rises or stands still."""
    generator = np.random.default_rng(seed)
    pose = np.random.default_rng(99).standard_normal((1, 1, 25, 3))
    values = np.broadcast_to(pose, (1, frames, 25, 3)).copy()
    values[..., 2] += (-1, 1, 0)[label] * np.linspace(0, 3, frames)[:, None]
    return (values + 0.05 * generator.standard_normal(values.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skeletons")
    for split, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(CLASSES):
            (folder / "files" / split / name).mkdir(parents=True)
            for number in range(count):
                values = recording(label, seed=1000 * (split == "test") + 10 * number + label, frames=30 + number)
                data = write_recording(Recording(values, layout_named("kinect-25"), 30.0))
                (folder / "files" / split / name / f"{number}.npz").write_bytes(data)
    build_data_set(folder / "files", folder / "shards", kind="skeletons", progress=False)
    return folder / "shards"


@pytest.fixture(scope="module")
def classifier(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BiGRU, trained on the recordings for a few epochs."""
    output = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        finetune(
            patch, output, shards, model_type="bigru", learning_rate=0.02,
            config_overrides=json.dumps({**TINY, "num_frames": 16, "normalization": "none"}),
        )  # fmt: skip
    return output


def finetune(patch: pytest.MonkeyPatch, output: Path, shards: Path, recipe: Path | None = None, **flags: Any) -> None:
    common: dict[str, Any] = {
        "dataset_name": shards, "validation_split": "test", "test_split": "test", "do_train": True, "do_eval": True,
        "num_train_epochs": 8, "per_device_train_batch_size": 8, "warmup_epochs": 0, "crop_frames": 16,
        "layer_decay": 1.0, "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no", "precision": "fp32",
        "dataloader_num_workers": 0, "label_smoothing_factor": 0.0,
    }  # fmt: skip
    arguments = words(output, recipe=recipe, **{**common, **flags})
    patch.setattr(sys, "argv", ["run_finetuning.py", *arguments])
    script().main()


def test_fine_tuning_learns_and_leaves_a_complete_folder(classifier: Path, shards: Path) -> None:
    assert final_metrics(classifier)["test_top_1"] == 1.0
    assert losses(classifier)[-1] < losses(classifier)[0]
    names = {path.name for path in classifier.iterdir()}
    assert names >= {"model.safetensors", "config.json", "preprocessor_config.json", "README.md", "test_results.json"}
    card = (classifier / "README.md").read_text()
    assert "AutoModelForSkeletonClassification" in card
    assert "pipeline_tag: other" in card
    model = AutoModelForSkeletonClassification.from_pretrained(classifier)
    assert list(model.config.id2label.values()) == CLASSES


def test_classify_skeletons_reads_files_and_arrays(classifier: Path, tmp_path: Path) -> None:
    arrays = [recording(label, seed=77 + label) for label in range(3)]
    (tmp_path / "a.npz").write_bytes(write_recording(Recording(arrays[0], layout_named("kinect-25"))))
    found = classify_skeletons([tmp_path / "a.npz", *arrays[1:]], classifier, top_k=2, batch_size=2)
    assert [answer[0]["label"] for answer in found] == CLASSES
    assert all(len(answer) == 2 and answer[0]["score"] >= answer[1]["score"] for answer in found)
    (alone,) = classify_skeletons(torch.from_numpy(arrays[1]), classifier)
    assert alone[0] == pytest.approx(found[1][0])
    (tmp_path / "b.skeleton").write_text("3\n1\n")
    with pytest.raises(BadMediumError, match="truncated"):
        classify_skeletons(tmp_path / "b.skeleton", classifier)
    with pytest.raises(ValueError, match="give the processor"):
        classify_skeletons(arrays[0], AutoModelForSkeletonClassification.from_pretrained(classifier))
    with pytest.raises(ValueError, match="name the layout it has"):
        classify_skeletons(np.ones((1, 9, 17, 3)), classifier)


def test_frozen_evaluation_and_retrieval(classifier: Path, shards: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"frozen": {"k": 1, "shots": [2], "draws": 2}, "cache_dir": tmp_path, "progress": False}
    result = evaluate_checkpoint(classifier, shards, **options)
    assert result["num_test"] == 12
    assert result["linear_probe"]["top_1"] == 1.0
    # Retrieval with one neighbour is the classifier of one neighbour.
    assert result["retrieval"]["recall_at_1"] == pytest.approx(result["knn"]["top_1"])
    assert evaluate_checkpoint(classifier, shards, **options) == result  # from the cache


@pytest.mark.parametrize("recipe", ["skeleton_contrast_finetune", "skeleton_contrast_linear_probe"])
def test_recipes_train_pretrained_encoders(
    recipe: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SkeletonContrastConfig(
        num_frames=16, sequence_options=TINY, graph_options={"hidden_sizes": [8]}, projection_size=8, queue_size=8
    )
    SkeletonContrastForPreTraining(config).save_pretrained(tmp_path / "pretrained")
    inference_processor(config).save_pretrained(tmp_path / "pretrained")
    before = SkeletonContrastForPreTraining.from_pretrained(tmp_path / "pretrained").encoder.sequence.state_dict()
    path = RECIPES / f"{recipe}.yaml"
    flags: dict[str, Any] = {"model_name_or_path": tmp_path / "pretrained", "max_steps": 2, "milestones": None}
    flags |= {"num_train_epochs": None, "warmup_epochs": None, "label_smoothing_factor": None, "layer_decay": None}
    frozen = "probe" in recipe
    if not frozen:
        flags |= {"train_fraction": 0.5}
    else:
        flags |= {"load_best_model_at_end": False}
    finetune(monkeypatch, tmp_path / "run", shards, path, **flags)
    after = AutoModelForSkeletonClassification.from_pretrained(tmp_path / "run").encoder.sequence.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()) == frozen
    args = parse_finetuning_arguments(
        words(tmp_path / "x", recipe=path, model_name_or_path=tmp_path / "pretrained", dataset_name=shards)
    )[3]
    assert (args.num_train_epochs, args.milestones) == ((80, [50, 70]) if frozen else (50, [30, 40]))
    assert args.learning_rate == pytest.approx(0.1 if frozen else 1e-4)
    assert (args.milestone_factor, args.weight_decay) == (0.1, 0)


def test_shares_of_all_clips(shards: Path) -> None:
    source = open_source(shards, split="train")

    def share(fraction: float, seed: int) -> set[str]:
        chosen = FractionSource(source, fraction, seed, grouped=False)
        return {sample.clip_id for index in range(chosen.num_shards) for sample in chosen.iterate_shard(index)}

    drawn, larger = {seed: share(0.25, seed) for seed in (0, 1)}, share(0.5, 0)
    assert len(drawn[0]) == len(drawn[1]) == 6
    assert drawn[0] != drawn[1]
    assert drawn[0] < larger
    assert FractionSource(source, 1e-6).num_samples == 1
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
        FractionSource(source, 0)


def test_batches_depend_on_seeds_alone_and_tests_are_cut_in_the_middle() -> None:
    extract = SkeletonFeatureExtractor(num_frames=16, normalization="none", num_bodies=1)
    items: list[dict[str, Any]] = [
        {"skeletons": torch.randn(1, frames, 25, 3), "label": 0, "clip_id": str(frames), "seed": frames}
        for frames in (40, 90)
    ]
    train = SkeletonCollator(extract, 3, settings=ViewSettings(16, ("temporal", "jitter"), 0.5, 16), mirror=0.5)
    both, alone = train(items), train(items[1:])
    assert torch.equal(both["skeletons"][1], alone["skeletons"][0])
    assert not torch.equal(train([{**items[0], "seed": 5}])["skeletons"][0], both["skeletons"][0])
    test = SkeletonCollator(extract, 3)(items)
    expected = crop_resize(items[1]["skeletons"][None], *central_crops(torch.tensor([90])), 16)
    assert torch.equal(test["skeletons"][1:], expected)
    assert BiGruConfig().input_specs["skeletons"].sampling == "whole"
