"""The backbone contract is checked when a class is defined."""

import pytest
import torch
from torch import Tensor, nn

from tubelets.models.common.backbone import Backbone, VideoBackbone


def test_an_incomplete_backbone_fails_when_it_is_defined() -> None:
    forward = {"forward": lambda self, x: x}
    with pytest.raises(TypeError, match="Sizeless must define `feature_size`"):
        type("Sizeless", (Backbone,), forward)
    with pytest.raises(TypeError, match="Idle must define `forward`"):
        type("Idle", (Backbone,), {"feature_size": 3})
    with pytest.raises(TypeError, match="Mapless must define `feature_map`"):
        type("Mapless", (VideoBackbone,), {**forward, "feature_size": 3})


def test_an_abstract_backbone_is_checked_in_its_subclasses() -> None:
    class Family(Backbone, abstract=True):
        pass

    with pytest.raises(TypeError, match="Member must define `feature_size`"):
        type("Member", (Family,), {"forward": lambda self, x: x})


def test_tokens_leave_class_tokens_out_and_flatten_maps() -> None:
    class WithClassTokens(Backbone):
        feature_size = 4
        num_class_tokens = 2

        def forward(self, tokens: Tensor) -> Tensor:
            return tokens

    backbone = WithClassTokens()
    assert isinstance(backbone, nn.Module)
    tokens, map_ = torch.randn(1, 5, 4), torch.randn(1, 4, 2, 3, 5)
    assert torch.equal(backbone.tokens(tokens), tokens[:, 2:])
    assert torch.equal(backbone.tokens(map_)[0, 1 * 15 + 2 * 5 + 3], map_[0, :, 1, 2, 3])
