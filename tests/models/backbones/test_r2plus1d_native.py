"""AVID-CMA's and RSPNet's own networks: names in both directions, other depths, what is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForVideoClassification

from tubelets import R2Plus1DNativeConfig, R2Plus1DNativeForVideoClassification, R2Plus1DNativeModel
from tubelets.models.backbones.r2plus1d_native.conversion_r2plus1d_native import (
    from_official,
    load_official,
    to_official,
)
from tubelets.models.common.errors import CheckpointLayoutError

SIZES = {"hidden_sizes": (4, 6, 8, 10)}
DEPTHS = {"avid_cma": ((1, 1, 1, 1), (2, 2, 2, 2)), "rspnet": ((1, 1, 1, 1), (2, 1, 3, 1))}
VARIANTS = [(variant, depths) for variant, found in DEPTHS.items() for depths in found]
every_network = pytest.mark.parametrize(("variant", "depths"), VARIANTS)


def scattered(variant: str, depths: tuple[int, ...]) -> R2Plus1DNativeModel:
    """A network none of whose parameters and statistics has the value of an initialisation."""
    torch.manual_seed(0)
    model = R2Plus1DNativeModel(R2Plus1DNativeConfig(variant=variant, depths=depths, **SIZES))
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value.add_(0.1 * torch.rand(value.shape))
    return model.eval()


def clip() -> Tensor:
    return torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@every_network
def test_official_names_lead_back_to_the_same_network(variant: str, depths: tuple[int, ...]) -> None:
    model = scattered(variant, depths)
    back = from_official(to_official(model))
    assert (back.config.variant, tuple(back.config.depths), tuple(back.config.hidden_sizes)) == (
        variant,
        depths,
        SIZES["hidden_sizes"],
    )
    assert torch.equal(back.eval()(clip()).pooler_output, model(clip()).pooler_output)


def test_names_are_the_official_ones() -> None:
    shallow = to_official(scattered("avid_cma", (1, 1, 1, 1)))
    assert {"conv1.0.weight", "conv2x.spt_conv1.weight", "conv3x.res_conv.weight", "conv5x.out_bn.bias"} <= set(shallow)
    deep = to_official(scattered("avid_cma", (2, 2, 2, 2)))
    assert {"conv2x.1.tmp_bn1.running_var", "conv5x.0.tmp_conv2.weight"} <= set(deep)
    rspnet = to_official(scattered("rspnet", (2, 1, 3, 1)))
    assert {"conv2.blocks.0.conv2.temporal_conv.weight", "conv4.blocks.1.bn2.weight"} <= set(rspnet)
    assert {"bn1.weight", "conv3.block1.downsampleconv.bn.bias", "conv3.block1.downsamplebn.weight"} <= set(rspnet)


@pytest.mark.parametrize("variant", DEPTHS)
def test_files_with_prefixes_and_other_networks_are_read(variant: str, tmp_path: Path) -> None:
    model = scattered(variant, DEPTHS[variant][0])
    official = to_official(model)
    prefix = {"avid_cma": "module.video_model.", "rspnet": "encoder_q.encoder."}[variant]
    other = {"avid_cma": "module.audio_model.", "rspnet": "encoder_k.encoder."}[variant]
    strangers = {other + name: value + 1.0 for name, value in official.items()}
    if variant == "avid_cma":  # its audio network has two-dimensional convolutions
        strangers = {name: value.squeeze(2) if value.ndim == 5 else value for name, value in strangers.items()}
        strangers = {name: value[..., 0] if value.ndim == 5 else value for name, value in strangers.items()}
    # Whichever comes first in the file, the video network's query encoder is taken.
    content = strangers | {prefix + name: value for name, value in official.items()}
    torch.save({"model": content}, tmp_path / "checkpoint.pth")
    loaded = load_official(tmp_path / "checkpoint.pth").eval()
    assert torch.equal(loaded(clip()).pooler_output, model(clip()).pooler_output)


@every_network
def test_a_converted_network_gets_a_new_classifier_and_trains(
    variant: str, depths: tuple[int, ...], tmp_path: Path
) -> None:
    model = scattered(variant, depths)
    model.save_pretrained(tmp_path)
    classifier = AutoModelForVideoClassification.from_pretrained(tmp_path, num_labels=5).train()
    assert isinstance(classifier, R2Plus1DNativeForVideoClassification)
    assert torch.equal(classifier.eval().backbone(clip()).pooler_output, model(clip()).pooler_output)
    classifier.train()(clip(), labels=torch.tensor([0, 4])).loss.backward()
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_linear_layer_is_kept() -> None:
    model = scattered("rspnet", (1, 1, 1, 1))
    official = to_official(model) | {"linear.weight": torch.randn(6, 10), "linear.bias": torch.randn(6)}
    classifier = from_official(official).eval()
    assert isinstance(classifier, R2Plus1DNativeForVideoClassification)
    expected = torch.nn.functional.linear(
        model(clip()).pooler_output, official["linear.weight"], official["linear.bias"]
    )
    torch.testing.assert_close(classifier(clip()).logits, expected)
    assert to_official(classifier).keys() == official.keys()


def test_avid_cma_takes_the_maximum_and_rspnet_the_mean() -> None:
    for variant, reduce in (("avid_cma", Tensor.amax), ("rspnet", Tensor.mean)):
        output = scattered(variant, (1, 1, 1, 1))(clip())
        assert torch.equal(output.pooler_output, reduce(output.last_hidden_state, dim=(2, 3, 4)))


def test_other_weights_are_refused_by_name() -> None:
    with pytest.raises(CheckpointLayoutError, match=r"neither AVID-CMA's nor RSPNet's.*stem"):
        from_official({"stem.0.weight": torch.zeros(45, 3, 1, 7, 7)})
    official = to_official(scattered("avid_cma", (2, 2, 2, 2)))
    with pytest.raises(CheckpointLayoutError, match=r"conv2x\.0\.extra\.weight"):
        from_official(official | {"conv2x.0.extra.weight": torch.zeros(1)})
    official.pop("conv3x.1.tmp_bn1.weight")
    with pytest.raises(CheckpointLayoutError, match="temporal_norm1"):
        from_official(official)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"depths": (1, 1)}, "depths and hidden_sizes"),
        ({"depths": (0, 1, 1, 1)}, r"depths must lie in \[1, 256\]"),
        ({"hidden_sizes": (4, 4, 4, 2**15)}, "16384"),
        ({"variant": "common"}, "variant"),
    ],
)
def test_bad_sizes_are_refused_by_value(fields: dict[str, object], named: str) -> None:
    with pytest.raises(Exception, match=named):
        R2Plus1DNativeConfig(**fields)
