"""Positions and layers of the spectrogram ViT on their own."""

import pickle

import pytest
import torch
from torch import nn

from tubelets.models.backbones.audio_vit.layers import SpectrogramLayer
from tubelets.models.backbones.audio_vit.positions import PositionTable, grid_positions


def filled(table: PositionTable) -> PositionTable:
    with torch.no_grad():
        table.position_embeddings.copy_(table.initial())
    return table


@pytest.mark.parametrize("learned", [True, False])
def test_positions_are_pickled_with_the_rule_that_extends_them(learned: bool) -> None:
    table = filled(PositionTable(2, 3, 8, learned, class_token=True))
    again = pickle.loads(pickle.dumps(table))
    assert torch.equal(again.position_embeddings, table.position_embeddings)
    again.resize((2, 3), (4, 3))
    torch.testing.assert_close(again(), grid_positions(4, 3, 8))
    assert isinstance(again.position_embeddings, nn.Parameter) is learned
    assert torch.equal(again.position_embeddings[:, 0], torch.zeros(1, 8))


def test_positions_of_selected_tokens() -> None:
    table = filled(PositionTable(2, 3, 8, learned=False, class_token=True))
    ids = torch.tensor([[5, 0], [1, 1]])
    torch.testing.assert_close(table(ids), grid_positions(2, 3, 8)[0][ids])


def test_trained_positions_cannot_be_extended() -> None:
    table = filled(PositionTable(2, 3, 8, learned=True))
    with torch.no_grad():
        table.position_embeddings += 1
    with pytest.raises(ValueError, match=r"grid of \(2, 3\) tokens cannot be extended to \(3, 3\)"):
        table.resize((2, 3), (3, 3))


def test_blocks_have_a_bias_for_their_keys() -> None:
    from tubelets import StructuredNoiseAudioConfig

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    layer = SpectrogramLayer(StructuredNoiseAudioConfig(**sizes))
    assert layer.attention.attention.key.bias.shape == (8,)
    assert layer(torch.randn(2, 5, 8)).shape == (2, 5, 8)
