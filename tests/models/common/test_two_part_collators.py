"""Batches that are completed on the model's device are the batches of the workers, and the host waits for nothing."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_models import FIELDS, items_of, tiny_config
from tubelets.models.common.auto import MODELS, pretraining_collator
from tubelets.models.common.collators import TwoPartCollator
from tubelets.motion import ColourChange, Movable, recolour, sample_colour_change

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain clips": ("smile", {"num_objects": 0, "mask_type": "tube"}),
    "black": ("smile", {"background": "black"}),
    "noise": ("smile", {"background": "noise", "second_mask": "resample"}),
    "temporal": ("tubelet_contrast", {"contrast": "temporal", "colour_probability": 1.0}),
    "own patches": ("tubelet_contrast", {"patches": "own", "still_probability": 0.5, "colour_probability": 1.0}),
    "odd width": ("tubelet_contrast", {"image_size": 36, "label_prob": 0.5}),
    **{
        model_type: (model_type, {})
        for model_type in FIELDS
        if MODELS[model_type].collator is not None
        and isinstance(pretraining_collator(tiny_config(model_type)), TwoPartCollator)
    },
}


def on_device(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """A batch as the training loop moves it."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def test_the_methods_that_change_pixels_have_two_parts() -> None:
    assert {"smile", "tubelet_contrast"} <= CASES.keys()


@pytest.mark.parametrize("case", CASES)
def test_both_parts_give_the_batch_of_one(case: str) -> None:
    model_type, changes = CASES[case]
    config = tiny_config(model_type, **changes)
    items, (name, *_) = items_of(config), config.pretraining_specs
    before = [item[name].clone() for item in items]
    expected = pretraining_collator(config)(items)
    prepared = pickle.loads(pickle.dumps(pretraining_collator(config).prepare(items)))
    found = pretraining_collator(config).finish(on_device(prepared, "cpu"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value) if isinstance(value, Tensor) else found[key] == value, key
    assert all(torch.equal(item[name], clip) for item, clip in zip(items, before, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_second_part_reads_nothing_from_the_device(case: str) -> None:
    # A meta tensor has no values: reading one, or a result whose shape depends on values, is an error.
    model_type, changes = CASES[case]
    collator = pretraining_collator(tiny_config(model_type, **changes))
    batch = collator.prepare(items_of(tiny_config(model_type, **changes)))
    shapes = {
        name: value.shape for name, value in collator(items_of(collator.config)).items() if isinstance(value, Tensor)
    }
    finished = collator.finish(on_device(batch, "meta"))
    assert {name: value.shape for name, value in finished.items() if isinstance(value, Tensor)} == shapes
    (name, *_) = collator.config.pretraining_specs
    assert finished[name].device.type == "meta"


def test_colours_in_one_pass_are_the_colours_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (6, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    change = sample_colour_change(6, generator, probability=0.5)
    whole = recolour(frames.clone(), change)
    monkeypatch.setattr("tubelets.motion.colours._CPU_PIXELS", 1)
    assert torch.equal(recolour(frames.clone(), change), whole)
    assert isinstance(change, ColourChange)
    assert isinstance(change.to("meta"), Movable)
