"""BERT in two parts: layers that read a text, and layers that also attend to a video (locomotion.md, section 3.3).

transformers' own `BertModel` cannot run its lower and its upper layers on their own, with attention to a video in the
upper ones alone; these classes are made of its sub-layers and keep their names.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertAttention,
    BertEmbeddings,
    BertIntermediate,
    BertOutput,
    BertPredictionHeadTransform,
    BertSelfOutput,
    eager_attention_forward,
)

from tubelets.models.methods.locomotion.configuration_towers import (
    LocoMotionFusionConfig,
    LocoMotionTextConfig,
    LocoMotionVideoConfig,
)

PADDING_SCORE = -10000.0
"""Added to the scores of padding; exp() of it is 0 in every precision."""


def padding_scores(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of attention so that padding is not attended to.

    Args:
        attention_mask: `(B, L)`, 1 for words and 0 for padding.
        dtype: of the result.

    Returns:
        `(B, 1, 1, L)`.

    Example:
        >>> padding_scores(torch.tensor([[1, 0]]), torch.float32).flatten().tolist()
        [0.0, -10000.0]
    """
    return (attention_mask[:, None, None].to(dtype) - 1) * -PADDING_SCORE


class LocoMotionTextLayer(GradientCheckpointingLayer):
    """A post-norm layer of BERT; also a layer of the video tower's stacked attention over time."""

    def __init__(self, config: LocoMotionTextConfig | LocoMotionFusionConfig | LocoMotionVideoConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, states: Tensor, scores: Tensor | None = None) -> Tensor:
        """Transform `(B, L, width)`; `scores` `(B, 1, 1, L)` are those of `padding_scores`."""
        attended, _ = self.attention(states, scores)
        return self.output(self.intermediate(attended), attended)


class TextEncoder(nn.Module):
    """The layers of BERT that read the text alone.

    Args:
        config: sizes.

    Example:
        >>> config = LocoMotionTextConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1)
        >>> TextEncoder(config)(torch.tensor([[101, 7, 102]]), torch.ones(1, 3)).shape
        torch.Size([1, 3, 32])
    """

    def __init__(self, config: LocoMotionTextConfig) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.layer = nn.ModuleList(LocoMotionTextLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts.

        Args:
            input_ids: int64 `(B, L)`.
            attention_mask: `(B, L)`, 1 for words and 0 for padding.

        Returns:
            `(B, L, width)`; the first token is the pooled text.
        """
        states = self.embeddings(input_ids)
        scores = padding_scores(attention_mask, states.dtype)
        for layer in self.layer:
            states = layer(states, scores)
        return states


class CrossAttention(nn.Module):
    """Attention of a text's tokens to a video's."""

    is_causal = False

    def __init__(self, config: LocoMotionFusionConfig) -> None:
        super().__init__()
        self.config = config
        width, self.num_heads = config.hidden_size, config.num_attention_heads
        self.scaling = (width // self.num_heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.encoder_hidden_size, width)
        self.value = nn.Linear(config.encoder_hidden_size, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, states: Tensor, video: Tensor, videos: Tensor | None = None) -> Tensor:
        """Attend: texts `(B, L, width)` to tokens of videos `(V, N, width)`, those of `videos` `(B,)` if given."""
        query = self._heads(self.query(states))
        # Keys and values of a video are computed once, however many texts it meets.
        key, value = self._heads(self.key(video)), self._heads(self.value(video))
        if videos is not None:
            key, value = key.index_select(0, videos), value.index_select(0, videos)
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        rate = self.dropout.p if self.training else 0.0
        context, _ = attend(self, query, key, value, None, scaling=self.scaling, dropout=rate, is_causal=False)
        return context.flatten(2)

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CrossAttentionBlock(nn.Module):
    """Attention to a video, a linear layer, and a norm of the sum; names are those of `BertAttention`."""

    def __init__(self, config: LocoMotionFusionConfig) -> None:
        super().__init__()
        self.self = CrossAttention(config)
        self.output = BertSelfOutput(config)

    def forward(self, states: Tensor, video: Tensor, videos: Tensor | None = None) -> Tensor:
        """Transform `(B, L, width)`; see `CrossAttention.forward`."""
        return self.output(self.self(states, video, videos), states)


class LocoMotionFusionLayer(GradientCheckpointingLayer):
    """A layer of BERT with attention to a video between self-attention and MLP."""

    def __init__(self, config: LocoMotionFusionConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.crossattention = CrossAttentionBlock(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, states: Tensor, scores: Tensor, video: Tensor, videos: Tensor | None = None) -> Tensor:
        """Transform `(B, L, width)`; see `FusionEncoder.forward`."""
        attended, _ = self.attention(states, scores)
        attended = self.crossattention(attended, video, videos)
        return self.output(self.intermediate(attended), attended)


class FusionEncoder(nn.Module):
    """The layers in which tokens of a text attend to those of a video.

    Args:
        config: sizes.

    Example:
        >>> config = LocoMotionFusionConfig(num_hidden_layers=1)
        >>> states, video = torch.zeros(4, 3, 768), torch.zeros(2, 5, 768)
        >>> FusionEncoder(config)(states, torch.ones(4, 3), video, torch.tensor([0, 1, 1, 0])).shape
        torch.Size([4, 3, 768])
    """

    def __init__(self, config: LocoMotionFusionConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(LocoMotionFusionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, states: Tensor, attention_mask: Tensor, video: Tensor, videos: Tensor | None = None) -> Tensor:
        """Join texts with videos.

        Args:
            states: `(B, L, width)`, from `TextEncoder`.
            attention_mask: `(B, L)`, 1 for words and 0 for padding.
            video: tokens of videos `(V, N, width of a video's token)`.
            videos: int64 `(B,)`, the video of each text; None pairs text i with video i.

        Returns:
            `(B, L, width)`; the first token decides whether a pair matches.
        """
        scores = padding_scores(attention_mask, states.dtype)
        for layer in self.layer:
            states = layer(states, scores, video, videos)
        return states


class LanguageHead(nn.Module):
    """Scores of words for each token; the matrix is the table of words, which the caller passes.

    Args:
        config: sizes.

    Example:
        >>> head = LanguageHead(LocoMotionTextConfig(vocab_size=9))
        >>> head(torch.zeros(2, 3, 768), torch.zeros(9, 768)).shape
        torch.Size([2, 3, 9])
    """

    def __init__(self, config: LocoMotionTextConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Score words.

        Args:
            states: `(..., width)`, from `FusionEncoder`.
            words: `(vocab_size, width)`.

        Returns:
            `(..., vocab_size)`.
        """
        return nn.functional.linear(self.transform(states), words, self.bias)
