"""Matching and masked words: who is drawn as a partner, which words are masked, and losses against plain sums."""

import pytest
import torch

from tubelets.objectives.contrastive import symmetric_cross_entropy
from tubelets.objectives.matching import (
    draw_partners,
    frame_text_similarity,
    mask_words,
    masked_language_accuracy,
    masked_language_loss,
    matching_weights,
)


def test_similarity_is_the_mean_over_frames_over_the_temperature() -> None:
    video = torch.nn.functional.normalize(torch.randn(3, 4, 8), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    expected = torch.einsum("bfd,cd->bcf", video, text).mean(dim=-1) / 0.07
    torch.testing.assert_close(frame_text_similarity(video, text, 0.07), expected)


def test_equal_captions_are_positives_of_each_other() -> None:
    scores, ids = torch.randn(4, 4), torch.tensor([7, 3, 7, 1])
    targets = torch.tensor([[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1.0]])
    expected = [-(targets * each.log_softmax(dim=1)).sum(dim=1).mean() for each in (scores, scores.t())]
    torch.testing.assert_close(symmetric_cross_entropy(scores, ids), sum(expected) / 2)


@pytest.mark.parametrize("hard", [True, False])
def test_partners_never_have_the_same_caption(hard: bool) -> None:
    torch.manual_seed(0)
    similarity, ids = 20 * torch.randn(4, 4), torch.tensor([7, 3, 7, 1])
    for weights in matching_weights(similarity, ids, hard):
        assert (weights[ids[:, None] == ids] == 0).all()
        many = draw_partners(weights.repeat(500, 1), torch.rand(2000))
        assert (ids[many] != ids.repeat(500)).all()


def test_partners_are_drawn_in_proportion_to_their_weights() -> None:
    weights = torch.tensor([[0.0, 0.1, 0.3, 0.0, 0.6, 0.0]]).expand(10000, -1)
    drawn = draw_partners(weights, (torch.arange(10000) + 0.5) / 10000)
    assert drawn.bincount(minlength=6).tolist() == [0, 1000, 3000, 0, 6000, 0]
    last = draw_partners(weights[:2], torch.tensor([0.0, 1 - 2**-24]))
    assert last.tolist() == [1, 4]


def test_rows_without_another_caption_are_uniform() -> None:
    for weights in matching_weights(torch.randn(3, 3), torch.tensor([5, 5, 5])):
        assert torch.equal(weights, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"similarity must be \(B, B\) and ids \(B,\), got \(3, 2\)"):
        matching_weights(torch.randn(3, 2))


def test_words_are_masked_as_bert_does() -> None:
    words = torch.randint(10, 500, (200, 40), generator=torch.Generator().manual_seed(0))
    maskable = torch.arange(40).expand(200, -1) > 0
    draws = torch.rand(200, 3, 40, generator=torch.Generator().manual_seed(1))
    masked, labels = mask_words(words, maskable, 4, 500, 0.5, draws)
    chosen = labels != -100
    assert not chosen[:, 0].any()
    assert chosen[:, 1:].float().mean() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(labels[chosen], words[chosen])
    assert torch.equal(masked[~chosen], words[~chosen])
    assert (masked[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (masked[chosen] == words[chosen]).float().mean() == pytest.approx(0.1, abs=0.02)


def test_only_masked_words_count() -> None:
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[-100, 4, -100], [0, -100, -100]])
    expected = -(logits[0, 1].log_softmax(-1)[4] + logits[1, 0].log_softmax(-1)[0]) / 2
    torch.testing.assert_close(masked_language_loss(logits, labels), expected)
    nothing = torch.full((2, 3), -100)
    assert masked_language_loss(logits, nothing) == masked_language_accuracy(logits, nothing) == 0
