"""Networks of skeletons: the two readings of BiGRU, any layout, inputs and configurations, the processor."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoFeatureExtractor

from tubelets import (
    AgcnConfig,
    AgcnModel,
    AutoModelForSkeletonClassification,
    BiGruConfig,
    BiGruModel,
    HcnConfig,
    HcnModel,
    StgcnConfig,
    StgcnModel,
)
from tubelets.models.backbones.bigru.modeling_bigru import TwoGrus
from tubelets.models.backbones.skeleton_networks.processing_skeleton import SkeletonFeatureExtractor
from tubelets.models.common.auto import inference_processor
from tubelets.skeletons import LAYOUTS, central_crops, crop_resize, layout_named, normalize_skeletons

GRAPH = {"hidden_sizes": [8, 16]}
NETWORKS = {
    "bigru": (BiGruConfig, BiGruModel, {"hidden_size": 8, "num_layers": 2}),
    "agcn": (AgcnConfig, AgcnModel, GRAPH),
    "stgcn": (StgcnConfig, StgcnModel, GRAPH),
    "hcn": (HcnConfig, HcnModel, {"width": 4, "num_frames": 16}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def stepped(grus: TwoGrus, frames: Tensor) -> Tensor:
    """The official reading: a bidirectional GRU that is fed one frame at a time; outputs of all frames."""
    sizes = grus.weight_ih_l0.shape[1], grus.hidden_size, grus.num_layers
    reference = nn.GRU(*sizes, batch_first=True, bidirectional=True)
    reference.load_state_dict(grus.state_dict())
    hidden, outputs = None, []
    for frame in frames.split(1, dim=1):
        output, hidden = reference(frame, hidden)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def test_whole_clips_give_what_a_frame_at_a_time_gives() -> None:
    torch.manual_seed(0)
    grus, frames = TwoGrus(12, 16, num_layers=3), torch.randn(3, 20, 12)
    output, last = grus(frames)
    expected = stepped(grus, frames)
    assert (output - expected).abs().max() < 1e-6
    assert (last - expected[:, -1]).abs().max() < 1e-6
    expected.square().sum().backward()  # the reference has weights of its own
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in grus.parameters())


def test_time_reversed_direction_is_a_bidirectional_gru() -> None:
    torch.manual_seed(0)
    grus, frames = TwoGrus(12, 16, num_layers=2, time_reversed=True), torch.randn(3, 20, 12)
    reference = nn.GRU(12, 16, 2, batch_first=True, bidirectional=True)
    reference.load_state_dict(grus.state_dict())
    expected, states = reference(frames)
    output, last = grus(frames)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, torch.cat([states[-2], states[-1]], dim=-1))
    assert (last - TwoGrus(12, 16, 2)(frames)[1]).abs().max() > 0.01


@pytest.mark.parametrize(("name", "count"), [("bigru", 45.0), ("agcn", 3.45), ("stgcn", 3.08), ("hcn", 0.52)])
def test_published_sizes(name: str, count: float) -> None:
    config_class, model_class, _ = NETWORKS[name]
    config = config_class()
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in model_class(config).parameters())
    assert parameters / 1e6 == pytest.approx(count, abs=0.02)
    assert config.num_values == pytest.approx(parameters, rel=0.15)


@every_network
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_other_numbers_of_bodies_and_coordinates(name: str, layout: str) -> None:
    config_class, model_class, sizes = NETWORKS[name]
    fields = {"layout": layout, "num_bodies": 1, "num_coordinates": 2, "normalization": "scale"}
    config = config_class(**sizes, **fields)
    shape = config.input_specs["skeletons"].shape
    assert shape == (1, config.num_frames, int(layout.split("-")[1]), 2)
    output = model_class(config).eval()(torch.randn(2, 1, 16, *shape[2:]))
    assert output.pooler_output.shape == (2, config.feature_size)


@every_network
def test_a_layout_of_ones_own(name: str) -> None:
    config_class, model_class, sizes = NETWORKS[name]
    own = {"layout": "arm", "joints": ["shoulder", "elbow", "wrist", "hand"], "bones": [[1, 0], [2, 1], [3, 2]]}
    config = config_class(**sizes, **own, normalization="centre")
    model = model_class(config_class.from_dict(config.to_dict())).eval()
    assert model(torch.randn(2, 2, 16, 4, 3)).pooler_output.isfinite().all()
    processor = SkeletonFeatureExtractor.from_dict(inference_processor(config).to_dict())
    found = processor([np.ones((1, 30, 4, 3))], return_tensors="pt")["skeletons"]
    assert found.shape == (1, 2, config.num_frames, 4, 3)


def test_graph_networks_depend_on_the_bones() -> None:
    skeletons = torch.randn(1, 1, 16, 4, 3)
    for config_class, model_class in ((AgcnConfig, AgcnModel), (StgcnConfig, StgcnModel)):
        found = []
        for bones in ([[1, 0], [2, 1], [3, 2]], [[1, 0], [2, 0], [3, 0]]):
            torch.manual_seed(0)
            own = {"layout": "own", "joints": list("abcd"), "bones": bones, "normalization": "none", "num_bodies": 1}
            model = model_class(config_class(**GRAPH, **own)).eval()
            torch.nn.init.ones_(model.get_submodule("l1.gcn1.bn" if model_class is AgcnModel else "data_bn").weight)
            found.append(model(skeletons).pooler_output)
        assert not torch.allclose(*found)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "kinect-20"}, "not built in"),
        ({"layout": "coco-17"}, "normalization='upright' needs three coordinates and the joints of a spine"),
        ({"bones": [[1, 0]]}, "joints are not"),
        ({"joints": ["a"], "bones": [[1, 0]], "normalization": "none"}, "bones or centre name"),
        ({"num_coordinates": 4, "normalization": "none"}, "joints must have 1 to 3 coordinates"),
        ({"num_bodies": 0}, "num_bodies"),
        ({"hidden_size": 16384, "num_layers": 64}, "would hold about"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        BiGruConfig(**fields)


def test_frames_of_hcn_are_refused() -> None:
    with pytest.raises(StrictDataclassError, match="num_frames must be a multiple of 16"):
        HcnConfig(num_frames=40)
    model = HcnModel(HcnConfig(width=4, num_frames=16))
    with pytest.raises(ValueError, match=r"\(1, 2, 32, 25, 3\), expected \(clips, 2, 16, 25, 3\)"):
        model(torch.zeros(1, 2, 32, 25, 3))


def test_processor_crops_normalises_and_survives_saving(tmp_path) -> None:
    config = BiGruConfig(hidden_size=8, num_labels=3)
    AutoModelForSkeletonClassification.from_config(config).save_pretrained(tmp_path)
    inference_processor(config).save_pretrained(tmp_path)
    processor = AutoFeatureExtractor.from_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(0)
    recordings = [torch.randn(bodies, frames, 25, 3, generator=generator) for bodies, frames in ((1, 90), (3, 7))]
    found = processor(recordings, return_tensors="pt")["skeletons"]
    assert found.shape == (2, 2, 64, 25, 3)
    for place, recording in enumerate(recordings):
        bodies = torch.zeros(1, 2, *recording.shape[1:])
        bodies[0, : min(2, len(recording))] = recording[:2]
        whole = normalize_skeletons(bodies, layout_named("kinect-25"))
        expected = crop_resize(whole, *central_crops(torch.tensor([recording.shape[1]])), 64)[0]
        torch.testing.assert_close(found[place], expected)
    model = AutoModelForSkeletonClassification.from_pretrained(tmp_path)
    assert model(found).logits.shape == (2, 3)
    for wrong, message in (
        (torch.zeros(1, 9, 17, 3), r"got \(1, 9, 17, 3\); name the layout it has"),
        (torch.zeros(1, 0, 25, 3), "none of them empty"),
        (torch.full((1, 9, 25, 3), torch.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            processor(wrong)


def test_head_starts_as_the_linear_evaluation_does() -> None:
    torch.manual_seed(0)
    model = AutoModelForSkeletonClassification.from_config(BiGruConfig(hidden_size=64, num_layers=1, num_labels=50))
    assert not model.classifier.bias.any()
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    # Matrices are Xavier-uniform, biases PyTorch's.
    weight = model.backbone.gru.weight_ih_l0
    assert weight.abs().max().item() == pytest.approx((6 / sum(weight.shape)) ** 0.5, rel=0.01)
    assert model.backbone.gru.bias_hh_l0.abs().max().item() == pytest.approx(64**-0.5, rel=0.05)
