"""A method of another package: a new modality, its own collator, another method's head; no file of this one changes.

Counts of events at a few sensors over time are masked and predicted. `register_model` and `register_modality` add both.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from clip_shards import write_tar
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    PreTrainedConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from tubelets import ModelEntry, register_model
from tubelets.data.modalities.arrays import read_array
from tubelets.data.modalities.modality import Clip, Medium, Modality
from tubelets.data.modalities.registry import register_modality, unregister_modality
from tubelets.data.modalities.specs import InputSpec
from tubelets.models.backbones.convolutional.modeling_convolutional import ConvolutionalForVideoClassification
from tubelets.models.common.auto import MODELS, inference_processor, pretraining_collator
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.pretrained_model import SafePreTrainedModel
from tubelets.models.common.safe_loading import load_config, load_model
from tubelets.training.pretraining import build_loader, build_model
from tubelets.training.recipe import load_recipe


@dataclass(frozen=True)
class EventSpec(InputSpec):
    """Counts of events: `events` of shape `(steps, sensors)`."""

    modality: ClassVar[str] = "events"

    num_steps: int
    num_sensors: int
    media: str = "events"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_steps, self.num_sensors)


class EventLog(Medium):
    def __init__(self, data: bytes, name: str) -> None:
        self.counts = torch.from_numpy(read_array(data, name)).float()

    def read(self, spec: EventSpec, clips: Sequence[Clip]) -> list[Tensor]:
        return [self.counts[clip.frames_of(spec.num_steps, len(self.counts))] for clip in clips]


class EventModality(Modality):
    name = "events"
    media = ("events",)

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        return EventLog(data, name)


@strict
class ToyConfig(RegisteredConfig, PreTrainedConfig):
    model_type = "toy_events"

    num_steps: int = 8
    num_sensors: int = 5
    feature_size: int = 16
    mask_ratio: float = 0.5
    head_dropout: float = 0.0

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        return {"events": EventSpec(self.num_steps, self.num_sensors)}

    def validate_ratio(self) -> None:
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {self.mask_ratio}")


class ToyPreTrainedModel(SafePreTrainedModel):
    config: ToyConfig
    config_class = ToyConfig
    base_model_prefix = "encoder"
    main_input_name = "events"
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^mask_token$", r"^classifier\."]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
            nn.init.zeros_(module.bias)


class ToyModel(ToyPreTrainedModel):
    """A backbone: tokens of time steps, and their mean."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.feature_size = config.feature_size
        self.embed = nn.Linear(config.num_sensors, config.feature_size)
        self.mix = nn.Linear(config.num_steps, config.num_steps)
        self.post_init()

    @can_return_tuple
    def forward(self, events: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        expected = self.config.input_specs["events"].shape
        if events.ndim != 3 or events.shape[1:] != expected:
            raise ValueError(f"events has shape {tuple(events.shape)}, expected (clips, {expected[0]}, {expected[1]})")
        tokens = self.embed(events).transpose(1, 2)
        tokens = (tokens + self.mix(tokens.relu())).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens.mean(dim=1))


@dataclass
class ToyOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None


class ToyForPreTraining(ToyPreTrainedModel):
    """Predict the counts of hidden time steps."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.encoder = ToyModel(config)
        self.mask_token = nn.Parameter(torch.zeros(config.num_sensors))
        self.decoder = nn.Linear(config.feature_size, config.num_sensors)
        self.post_init()

    @can_return_tuple
    def forward(self, events: Tensor, bool_masked_pos: Tensor, **kwargs: Any) -> ToyOutput:
        visible = torch.where(bool_masked_pos[..., None], self.mask_token, events)
        predicted = self.decoder(self.encoder(visible).last_hidden_state)
        error = (predicted - events).square().mean(dim=2)
        return ToyOutput((error * bool_masked_pos).sum() / bool_masked_pos.sum(), predicted)


class ToyForClassification(ConvolutionalForVideoClassification, ToyPreTrainedModel):
    """The classifier of the convolutional methods, on another encoder and another input."""

    config: ToyConfig
    config_class = ToyConfig
    base_model_prefix = "encoder"
    main_input_name = "events"
    backbone_class = ToyModel
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^mask_token$"]

    def forward(self, events: Tensor, labels: Tensor | None = None, **kwargs: Any) -> Any:
        return super().forward(events, labels, **kwargs)


class ToyCollator:
    """Stacks the clips and hides time steps, drawn from the seed of each clip."""

    def __init__(self, config: ToyConfig) -> None:
        self.count, self.steps = round(config.mask_ratio * config.num_steps), config.num_steps

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        drawn = [torch.rand(self.steps, generator=torch.Generator().manual_seed(item["seed"])) for item in items]
        masks = torch.stack(drawn).argsort(dim=1).argsort(dim=1) < self.count
        return {"events": torch.stack([item["events"] for item in items]), "bool_masked_pos": masks}


ENTRY = ModelEntry(
    "toy_events",
    __name__,
    config=ToyConfig,
    models={
        "AutoModel": ToyModel,
        "AutoModelForPreTraining": ToyForPreTraining,
        "AutoModelForVideoClassification": ToyForClassification,
    },
    collator=ToyCollator,
)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_model(ENTRY)
    register_modality(EventModality())
    yield
    MODELS.pop("toy_events")
    unregister_modality("events")


def waves(count: int, config: Any, start: int = 0) -> list[dict[str, Any]]:
    """Clips of one wave each, which a few of its steps give away; the class is its speed."""
    items: list[dict[str, Any]] = []
    for seed in range(start, start + count):
        phase = torch.rand(1, generator=torch.Generator().manual_seed(seed))
        speed = 1 + seed % 2
        times = torch.arange(config.num_steps)[:, None] / config.num_steps
        events = torch.sin(6.28 * (speed * times + phase + torch.arange(config.num_sensors) / 5))
        items.append({"events": events, "seed": seed, "label": seed % 2})
    return items


def train(model: Any, batch: dict[str, Tensor], steps: int, rate: float) -> list[float]:
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=rate), []
    for _ in range(steps):
        loss = model.train()(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def pretrained(folder: Path) -> Any:
    torch.manual_seed(0)
    model = AutoModelForPreTraining.from_config(AutoConfig.for_model("toy_events"))
    assert type(model) is ToyForPreTraining
    batch = pretraining_collator(model.config)(waves(32, model.config))
    losses = train(model, batch, steps=30, rate=0.01)
    assert losses[-1] < 0.8 * losses[0]
    model.save_pretrained(folder)
    return model


def test_pretraining_saving_loading_and_fine_tuning(tmp_path: Path) -> None:
    model = pretrained(tmp_path)
    config = load_config(tmp_path)
    assert type(config) is ToyConfig
    assert model_inputs(config) == {"events": EventSpec(8, 5)}
    example = model_inputs(config)["events"].example(3)
    for loaded in (AutoModel.from_pretrained(tmp_path), load_model(AutoModel, tmp_path, fresh="nothing")):
        assert type(loaded) is ToyModel
        assert torch.equal(loaded(example).pooler_output, model.encoder(example).pooler_output)

    config.num_labels = 2
    classifier = load_model(AutoModelForVideoClassification, tmp_path, fresh="head", config=config)
    assert type(classifier) is ToyForClassification
    assert torch.equal(classifier.encoder.embed.weight, model.encoder.embed.weight)
    items = waves(16, config)
    batch = {"events": torch.stack([item["events"] for item in items])}
    batch["labels"] = torch.tensor([item["label"] for item in items])
    losses = train(classifier, batch, steps=2, rate=0.01)
    assert losses[1] < losses[0]
    assert not torch.equal(classifier.encoder.embed.weight, model.encoder.embed.weight)
    assert classifier(example).logits.shape == (3, 2)


def test_what_is_refused_is_refused_for_it_too(tmp_path: Path) -> None:
    pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(2, 8, 4\), expected \(clips, 8, 5\)"):
        AutoModel.from_pretrained(tmp_path)(torch.zeros(2, 8, 4))
    with pytest.raises(CheckpointLayoutError, match="'toy_events' and SigmaConfig reads"):
        MODELS["sigma"].load(MODELS["sigma"].config).from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'toy_events' has no processor"):
        inference_processor(load_config(tmp_path))
    with pytest.raises(TypeError, match="must define the property `input_specs`"):

        class NoInputs(RegisteredConfig, PreTrainedConfig):
            model_type = "toy_without_inputs"


RECIPE = """
model: {model_type: toy_events, config: {num_steps: 8, num_sensors: 5}}
data: {path: null, shuffle_window: 4, num_workers: 0}
optimization: {max_steps: 2, global_batch_size: 4, base_learning_rate: 1.0e-2, warmup_epochs: 0}
run: {output_dir: null, seed: 0, batch_size: 4, precision: fp32}
"""


def test_shards_of_the_modality_stream_into_its_pretraining(tmp_path: Path) -> None:
    members = []
    for item in waves(8, ToyConfig()):
        file = io.BytesIO()
        np.save(file, item["events"].numpy())
        members.append((f"{item['seed']}.events.npy", file.getvalue()))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "train.tar", members)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    paths = ["--data.path", str(tmp_path / "shards"), "--run.output_dir", str(tmp_path / "run")]
    recipe = load_recipe(str(tmp_path / "toy.yaml"), paths)
    model = build_model(recipe)
    batch = next(iter(build_loader(recipe, model.config, Accelerator(cpu=True))))
    assert batch["events"].shape == (4, 8, 5)
    assert batch["bool_masked_pos"].sum(dim=1).tolist() == [4, 4, 4, 4]
    losses = train(model, batch, steps=5, rate=0.01)
    assert losses[-1] < losses[0]
