"""Every field of every registered configuration with nonsense: refused at once, by name."""

import dataclasses
import math
import time
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from tiny_models import FIELDS, tiny_config
from tubelets.models.common.auto import MODELS

every_type = pytest.mark.parametrize("model_type", MODELS)
NESTED: Any = []
for _ in range(2000):
    NESTED = [NESTED]

ALWAYS: dict[str, Any] = {
    "not a number": math.nan,
    "infinite": math.inf,
    "minus infinity": -math.inf,
    "huge": 10**30,
    "a million": [1] * 10**6,
    "a million fractions": [0.5] * 10**6,
    "nested": NESTED,
    "a long text": "x" * 10**6,
    "an object": object(),
    "an endless entry": {"x": [math.nan]},
}


def fields(model_type: str) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(type(tiny_config(model_type)))}


def refused(model_type: str, name: str, value: Any) -> None:
    with pytest.raises(StrictDataclassError) as caught:
        tiny_config(model_type, **{name: value})
    assert name in str(caught.value) or "num_labels" in str(caught.value), name


@every_type
def test_nonsense_is_refused_at_once(model_type: str) -> None:
    started = time.process_time()
    for name in fields(model_type):
        for value in ALWAYS.values():
            refused(model_type, name, value)
    assert time.process_time() - started < 20


@every_type
def test_wrong_kinds_of_values_are_refused(model_type: str) -> None:
    config = tiny_config(model_type)
    for name, field in fields(model_type).items():
        kinds, value = str(field.type), getattr(config, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            refused(model_type, name, "many")
            if "bool" not in kinds:
                refused(model_type, name, True)
            if value >= 0 and not (isinstance(field.default, float) and field.default < 0):
                refused(model_type, name, -1)
        if isinstance(value, bool):
            refused(model_type, name, "yes")
            refused(model_type, name, 3)
        if isinstance(value, str):
            refused(model_type, name, 3)
            refused(model_type, name, ["x"])


@every_type
def test_misspelt_fields_get_the_nearest_name(model_type: str) -> None:
    for name in fields(model_type):
        if len(name) > 5:
            with pytest.raises(StrictDataclassError, match="unknown field; did you mean"):
                tiny_config(model_type, **{name[:3] + name[4:]: 1})
    with pytest.raises(StrictDataclassError, match="unknown field; known are"):
        tiny_config(model_type, qqqq=1)


@every_type
def test_fields_of_transformers_have_types(model_type: str) -> None:
    bad: dict[str, Any] = {
        "architectures": "x", "dtype": "x", "id2label": 3, "label2id": ["a"], "problem_type": "x", "return_dict": 0.5,
        "transformers_version": 5, "output_hidden_states": [], "is_encoder_decoder": "no",
    }  # fmt: skip
    for name, value in bad.items():
        refused(model_type, name, value)
    assert tiny_config(model_type, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("i3d", {"width_multiplier": 16.0}),
        ("resnet3d", {"hidden_sizes": [2**14] * 4}),
        ("r2plus1d_native", {"hidden_sizes": [2**14] * 4}),
        ("tubelet_contrast", {"queue_size": 2**24, "projection_size": 2**10}),
        ("tubelet_contrast", {"backbone_options": {"hidden_sizes": [2**14] * 4}}),
        ("sigma", {"num_prototypes": 10**9}),
        ("sigma", {"image_size": 2**15}),
        ("smile", {"num_frames": 2**16, "image_size": 320}),
        ("structured_noise_audio", {"max_length": 2**20, "num_mel_bins": 1024}),
        ("structured_noise_audio_video", {"image_size": 2**15}),
    ],
)
def test_totals_are_bounded(model_type: str, changes: dict[str, Any]) -> None:
    assert set(changes) <= {*FIELDS[model_type], *fields(model_type)}
    with pytest.raises(StrictDataclassError, match=r"tokens, more than|values, more than|beyond memory|must lie in"):
        tiny_config(model_type, **changes)
