"""Skeleton-Contrast: pairs, queues and momentum, which encoders are evaluated, batches, conversion."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining

from distributed import run_processes
from tubelets import AutoModelForSkeletonClassification, SkeletonContrastConfig, SkeletonContrastForPreTraining
from tubelets.models.methods.skeleton_contrast.conversion_skeleton_contrast import LAYOUT
from tubelets.models.methods.skeleton_contrast.processing_skeleton_contrast import SkeletonContrastCollator
from tubelets.objectives import info_nce

OPTIONS: dict[str, dict[str, Any]] = {
    "sequence": {"hidden_size": 6, "num_layers": 2},
    "graph": {"hidden_sizes": [8, 16]},
    "image": {"width": 4},
}
FORMS = [
    ("sequence",), ("graph",), ("image",), ("sequence", "graph"), ("sequence", "image"), ("graph", "image"),
    ("sequence", "graph", "image"),
]  # fmt: skip
every_form = pytest.mark.parametrize("names", FORMS, ids="+".join)


def config_of(*names: str, **fields: Any) -> SkeletonContrastConfig:
    options = {f"{name}_options": OPTIONS[name] for name in names}
    return SkeletonContrastConfig(
        representations=list(names), num_frames=16, projection_size=8, queue_size=8, **{**options, **fields}
    )


def model_of(*names: str, **fields: Any) -> SkeletonContrastForPreTraining:
    torch.manual_seed(0)
    return SkeletonContrastForPreTraining(config_of(*names, **fields)).train()


def views(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, count, 2, 16, 25, 3, generator=generator)
    return first, second


@every_form
def test_each_query_meets_the_keys_of_the_other_representations(names: tuple[str, ...]) -> None:
    model = model_of(*names, image_options={**OPTIONS["image"], "dropout": 0.0} if "image" in names else None)
    before = {name: queue.keys.clone() for name, queue in model.queues.items()}
    output = model(*views())
    expected = [(names[0], names[0])] if len(names) == 1 else None
    if expected is None:
        pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
        expected = [pair for a, b in pairs for pair in ((a, b), (b, a))]
    assert len(output.logits) == len(expected) == {1: 1, 2: 2, 3: 6}[len(names)]
    queries, keys = (dict(zip(names, features, strict=True)) for features in (output.query, output.key))
    losses = []
    for logits, (own, other) in zip(output.logits, expected, strict=True):
        loss, again = info_nce(queries[own], keys[other], before[other], 0.07)
        torch.testing.assert_close(logits, again)
        losses.append(loss)
    torch.testing.assert_close(output.loss, torch.stack(losses).sum())
    for name, queue in model.queues.items():
        torch.testing.assert_close(queue.keys[:, :4], keys[name].T)
        assert torch.equal(queue.keys[:, 4:], before[name][:, 4:])
        assert queue.pointer.item() == 4
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("encoder", "projections")), name


def test_momentum_moves_parameters_and_leaves_statistics() -> None:
    model = model_of("sequence", "graph", momentum=0.75)
    with torch.no_grad():
        for parameter in (*model.encoder.parameters(), *model.projections.parameters()):
            parameter.add_(1)
    old = {name: value.clone() for name, value in model.key_encoder.named_parameters()}
    statistics = model.key_encoder.graph.data_bn.running_mean.clone()
    model(*views())
    for name, parameter in model.encoder.named_parameters():
        torch.testing.assert_close(
            model.key_encoder.get_parameter(name), torch.lerp(old[name], parameter, 0.25), msg=name
        )
    moved = model.key_encoder.graph.data_bn.running_mean
    assert not torch.equal(moved, statistics)  # of its own pass
    assert not torch.equal(moved, model.encoder.graph.data_bn.running_mean)
    model.eval()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model(*views())
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_a_batch_that_does_not_divide_the_queue_is_refused() -> None:
    with pytest.raises(ValueError, match="a queue of 8 keys must be a multiple of the 3 clips"):
        model_of("sequence")(*views(3))


@pytest.mark.parametrize("evaluated", [None, ["graph"], ["sequence", "graph"]])
def test_pretrained_encoders_are_evaluated_alone_or_together(evaluated: list[str] | None, tmp_path: Path) -> None:
    model = model_of("sequence", "graph").eval()
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, evaluated=evaluated, output_loading_info=True)
    assert not any(report.values()), report
    skeletons, _ = views()
    features = model.encoder.features(skeletons)
    expected = torch.cat([features[name] for name in evaluated or ["sequence"]], dim=1)
    torch.testing.assert_close(loaded(skeletons).pooler_output, expected)
    classifier = AutoModelForSkeletonClassification.from_pretrained(tmp_path, evaluated=evaluated, num_labels=3)
    torch.testing.assert_close(classifier.encoder(skeletons).pooler_output, expected)
    assert classifier(skeletons).logits.shape == (4, 3)
    again = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@every_form
def test_official_weights_and_back(names: tuple[str, ...]) -> None:
    model = model_of(*names)
    if len(names) == 3:
        with pytest.raises(ValueError, match="no model of three representations"):
            LAYOUT.to_official(model)
        return
    official = {f"module.{name}": value for name, value in LAYOUT.to_official(model).items()}
    queue = "module.queue" if len(names) == 1 else "module.Queue_S1"
    assert official[queue].shape == (8, 8)
    found = LAYOUT.infer_config(official)
    assert list(found.representations) == list(names)
    fields = {"num_frames": 16} if "image" not in names else {}
    back = LAYOUT.from_official(official, LAYOUT.infer_config(official, **fields))
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in model.state_dict().items())


def shared_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """One process's part of a step: its loss, and the queues afterwards."""
    model = model_of("sequence", "image", image_options={**OPTIONS["image"], "dropout": 0.0})
    first, second = (view.chunk(world_size)[rank] for view in views())
    loss = model(first, second).loss
    return {"loss": loss.detach(), **{name: queue.keys.clone() for name, queue in model.queues.items()}}


def test_processes_contrast_with_the_keys_of_all() -> None:
    whole = shared_step(0, 1)
    parts = run_processes(shared_step, 2)
    torch.testing.assert_close(torch.stack([part["loss"] for part in parts]).mean(), whole["loss"])
    for part in parts:
        for name in ("sequence", "image"):
            torch.testing.assert_close(part[name], whole[name])


def items_of(*lengths: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    return [{"skeletons": torch.randn(2, frames, 25, 3, generator=generator), "seed": frames} for frames in lengths]


def test_views_depend_on_the_seed_of_their_clip_alone() -> None:
    collate = SkeletonContrastCollator(config_of("sequence", "graph"))
    items = items_of(90, 200, 30)
    together, (alone,) = collate(items), [collate(items[1:2])]
    for name in ("skeletons", "key_skeletons"):
        assert together[name].shape == (3, 2, 16, 25, 3)
        torch.testing.assert_close(together[name][1], alone[name][0])
    assert not torch.allclose(together["skeletons"], together["key_skeletons"])
    again = collate.finish(collate.prepare(items))
    assert torch.equal(again["skeletons"], together["skeletons"])
    changed = collate([{**items[0], "seed": 91}])
    assert not torch.equal(changed["skeletons"][0], together["skeletons"][0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"representations": ["graph", "sequence"]}, "in this order"),
        ({"representations": ["sequence", "sequence"]}, "in this order"),
        ({"representations": ["voxels"]}, "some of sequence, graph, image"),
        ({"representations": []}, "representations must be"),
        ({"evaluated": ["image"]}, "evaluated must be some of the representations"),
        ({"image_options": {"width": 8}}, "'image' is not among the representations"),
        ({"sequence_options": {"num_frames": 8}}, "other than those of the method"),
        ({"augmentations": ["flip"]}, "augmentations must be some of"),
        ({"temperature": 0}, "temperature"),
        ({"queue_size": 2**24, "projection_size": 2**14}, "beyond memory"),
        ({"momentum": 1.5}, "momentum"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        SkeletonContrastConfig(**fields)
