"""LocoMotion (Doughty et al., ACCV 2024, arXiv 2410.12018): videos with moving objects and captions of their motion.

A video tower and a text tower are trained by contrast; layers that join both decide whether a video and a text match,
and predict masked words. Networks and losses are those of VindLU, or of Singularity-temporal (locomotion.md, 3 and 4).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.common.classification_head import ClassificationHead
from tubelets.models.common.starting_parts import StartsFromParts
from tubelets.models.common.weight_updates import UpdatesWeights
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.modeling_encoder import LocoMotionModel
from tubelets.models.methods.locomotion.modeling_towers import LocoMotionPreTrainedModel, check_clips, check_texts
from tubelets.models.methods.locomotion.text_encoder import LanguageHead
from tubelets.objectives.contrastive import gather_keys, gather_trained, symmetric_cross_entropy
from tubelets.objectives.matching import (
    draw_partners,
    frame_text_similarity,
    masked_language_accuracy,
    masked_language_loss,
    matching_weights,
)


@dataclass
class LocoMotionForPreTrainingOutput(ModelOutput):
    """Output of training on B pairs of a video and a text.

    Args:
        loss: scalar, the weighted sum of those below.
        contrastive_loss: scalar.
        contrastive_accuracy: scalar, share of videos and of texts whose nearest partner in the process is right.
        matching_loss: scalar.
        matching_accuracy: scalar, share of pairs that are recognised as matching or not.
        masked_language_loss: scalar; in pretraining.
        masked_language_accuracy: scalar, share of masked words that are predicted; in pretraining.
        similarity: `(B, B)`, of videos and texts over the temperature.
        matching_logits: `(3 B, 2)`: texts with their videos, with other videos, and other texts with the videos; column
            1 is "matches". `(4 B, 2)` with wrong captions behind.
        masked_language_logits: `(B, L, words)`; in pretraining.
    """

    loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    contrastive_accuracy: Tensor | None = None
    matching_loss: Tensor | None = None
    matching_accuracy: Tensor | None = None
    masked_language_loss: Tensor | None = None
    masked_language_accuracy: Tensor | None = None
    similarity: Tensor | None = None
    matching_logits: Tensor | None = None
    masked_language_logits: Tensor | None = None


class LocoMotionForVideoTextRetrieval(UpdatesWeights, StartsFromParts, LocoMotionPreTrainedModel):
    """Contrast and matching of videos and texts, for fine-tuning on retrieval and for scoring pairs.

    Args:
        config: sizes and constants of the losses.

    Example:
        >>> tower = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
        >>> video = {**tower, "image_size": 32, "temporal_head_size": 16}
        >>> config = LocoMotionConfig(
        ...     video_config=video, text_config={**tower, "vocab_size": 60}, fusion_encoder_config=tower
        ... )
        >>> model = LocoMotionForVideoTextRetrieval(config)
        >>> output = model(torch.rand(2, 4, 3, 32, 32), torch.tensor([[1, 7, 2], [1, 8, 2]]))
        >>> output.similarity.shape, output.matching_logits.shape
        (torch.Size([2, 2]), torch.Size([6, 2]))
    """

    _keys_to_ignore_on_load_unexpected = [r"^language_head\.", r"^classifier\."]

    def __init__(self, config: LocoMotionConfig) -> None:
        super().__init__(config)
        self.locomotion = LocoMotionModel(config)
        self.matching_head = nn.Linear(config.text_config.hidden_size, 2)
        self._add_heads(config)
        self.post_init()
        self.locomotion.freeze_unused()

    def _add_heads(self, config: LocoMotionConfig) -> None:
        """Add heads of a subclass."""

    def train(self, mode: bool = True) -> "LocoMotionForVideoTextRetrieval":
        """Switch between training and evaluation; what is not used stays frozen in both."""
        super().train(mode)
        self.locomotion.freeze_unused()
        return self

    def load_parts(self) -> None:
        """Start the towers from BEiT and BERT, if the configuration names checkpoints (`video_init`, `text_init`)."""
        # Imported here: the conversion builds models of this module.
        from tubelets.models.methods.locomotion.conversion_locomotion import load_parts

        load_parts(self)

    def update_weights(self) -> None:
        """Keep the temperature in its range before a training step."""
        if self.training:
            self.locomotion.temperature.clamp_(self.config.min_temperature, self.config.max_temperature)

    def get_video_features(self, pixel_values: Tensor) -> Tensor:
        """See `LocoMotionModel.get_video_features`."""
        return self.locomotion.get_video_features(pixel_values)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """See `LocoMotionModel.get_text_features`."""
        return self.locomotion.get_text_features(input_ids, attention_mask)

    def get_match_inputs(self, pixel_values: Tensor) -> Tensor:
        """Tokens of videos `(V, N, width)` that `score_pairs` reads."""
        return self.locomotion.encode_video(pixel_values)[0].flatten(1, 2)

    def score_pairs(self, match_inputs: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score whether texts match videos, by which retrieval is re-ranked (locomotion.md, section 8).

        Args:
            match_inputs: `(P, N, width)`, of `get_match_inputs`.
            input_ids: int64 `(P, L)`, a text for each video.
            attention_mask: `(P, L)`, 1 for words and 0 for padding.

        Returns:
            `(P,)`, the logits of matching; larger is better.
        """
        states = self.locomotion.encode_text(input_ids, attention_mask)
        return self.match(states, attention_mask, match_inputs)[:, 1]

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        caption_ids: Tensor | None = None,
        negative_draws: Tensor | None = None,
        negative_input_ids: Tensor | None = None,
        negative_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> LocoMotionForPreTrainingOutput:
        """Contrast and match pairs of a video and a text.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            input_ids: int64 `(B, L)`, the text of each video.
            attention_mask: int64 `(B, L)`, 1 for words and 0 for padding; None takes every `pad_token_id` for padding.
            caption_ids: int64 `(B,)`; texts with equal numbers are the same text. None treats each as its own.
            negative_draws: float `(B, 2)`, uniform in [0, 1): decide the video that does not match each text, and the
                text that does not match each video. None draws them from torch's global generator.
            negative_input_ids: int64 `(B, L)`, wrong captions of the videos, or None.
            negative_attention_mask: their mask of words.
            **kwargs: `return_dict`.

        Returns:
            The loss and its parts.

        Raises:
            ValueError: if an input does not fit the configuration.
        """
        output, _ = self._contrast_and_match(
            pixel_values,
            (input_ids, attention_mask),
            caption_ids,
            negative_draws,
            (negative_input_ids, negative_attention_mask),
        )
        return output

    def _contrast_and_match(
        self,
        pixel_values: Tensor,
        texts: tuple[Tensor, Tensor | None],
        caption_ids: Tensor | None,
        draws: Tensor | None,
        wrong: tuple[Tensor | None, Tensor | None],
    ) -> tuple[LocoMotionForPreTrainingOutput, Tensor]:
        """Contrast and matching, and the tokens of the videos `(B, N, width)`."""
        config, encoder = self.config, self.locomotion
        self.check(pixel_values, texts, caption_ids, draws, wrong)
        words = encoder.words(*texts)
        tokens, frames = encoder.encode_video(pixel_values)
        video = tokens.flatten(1, 2)
        states = encoder.encode_text(texts[0], words)
        video_vectors, text_vectors = encoder.video_vectors(frames), encoder.text_vectors(states)

        # Contrast: each video with the texts of the batch.
        similarity = frame_text_similarity(video_vectors, text_vectors, encoder.temperature)
        contrastive_loss = self.contrast(video_vectors, text_vectors, similarity, caption_ids)

        # Matching: each text with its video, a similar video, and a similar text with the video.
        weights = matching_weights(similarity, caption_ids, config.matching_negatives == "hard")
        if draws is None:
            draws = torch.rand(len(video), 2, device=video.device)
        videos, others = (draw_partners(each, draws[:, place]) for place, each in enumerate(weights))
        parts = [(states, words)]
        if wrong[0] is not None:
            mask = encoder.words(*wrong)
            parts.append((encoder.encode_text(wrong[0], mask), mask))
        logits = self.match_partners(parts, video, videos, others)
        matches = (torch.arange(len(logits), device=logits.device) < len(video)).long()
        matching_loss = F.cross_entropy(logits.float(), matches)
        output = LocoMotionForPreTrainingOutput(
            loss=config.contrastive_weight * contrastive_loss + config.matching_weight * matching_loss,
            contrastive_loss=contrastive_loss,
            contrastive_accuracy=nearest_is_right(similarity, caption_ids),
            matching_loss=matching_loss,
            matching_accuracy=(logits.detach().argmax(dim=1) == matches).float().mean(),
            similarity=similarity,
            matching_logits=logits,
        )
        return output, video

    def check(
        self,
        pixel_values: Tensor,
        texts: tuple[Tensor, Tensor | None],
        caption_ids: Tensor | None,
        draws: Tensor | None,
        wrong: tuple[Tensor | None, Tensor | None],
    ) -> None:
        """Reject inputs that do not fit the configuration or each other; arguments as of `forward`."""
        check_clips(pixel_values, self.config.video_config)
        named = {"input_ids": texts[0], "attention_mask": texts[1]}
        named |= {"negative_input_ids": wrong[0], "negative_attention_mask": wrong[1]}
        check_texts(self.config.text_config, pixel_values, **named)
        count = len(pixel_values)
        if caption_ids is not None and (caption_ids.dtype != torch.int64 or caption_ids.shape != (count,)):
            raise ValueError(
                f"caption_ids must be int64 of the expected shape ({count},), got {caption_ids.dtype} "
                f"{tuple(caption_ids.shape)}"
            )
        if draws is not None and (not draws.is_floating_point() or draws.shape != (count, 2)):
            raise ValueError(
                f"negative_draws must be float of the expected shape ({count}, 2), got {draws.dtype} "
                f"{tuple(draws.shape)}"
            )

    def contrast(
        self, video_vectors: Tensor, text_vectors: Tensor, similarity: Tensor, caption_ids: Tensor | None
    ) -> Tensor:
        """Contrastive loss of the process's pairs or, with `gather_features`, of the pairs of all processes.

        Args:
            video_vectors: `(B, T, projection_size)` of unit length.
            text_vectors: `(B, projection_size)` of unit length.
            similarity: `(B, B)`, of the process's own pairs.
            caption_ids: int64 `(B,)` or None.

        Returns:
            Scalar in float32.
        """
        if self.config.gather_features and several_processes():
            video = gather_trained(video_vectors.mean(dim=1, keepdim=True))
            similarity = frame_text_similarity(video, gather_trained(text_vectors), self.locomotion.temperature)
            caption_ids = None if caption_ids is None else gather_keys(caption_ids)
        return symmetric_cross_entropy(similarity, caption_ids)

    def match_partners(
        self, texts: list[tuple[Tensor, Tensor]], video: Tensor, videos: Tensor, others: Tensor
    ) -> Tensor:
        """Scores of matching and of other pairs, in the order of `matching_logits`.

        Args:
            texts: tokens `(B, L, width)` and mask of words `(B, L)` of the texts, and of wrong captions if there are.
            video: tokens `(B, N, width)` of the videos.
            videos: int64 `(B,)`, a video that does not match each text.
            others: int64 `(B,)`, a text that does not match each video.

        Returns:
            `(3 B, 2)`, or `(4 B, 2)` with wrong captions.
        """
        (states, words), own = texts[0], torch.arange(len(video), device=video.device)
        pairs = [(states, words, own), (states, words, videos), (states[others], words[others], own)]
        pairs += [(*wrong, own) for wrong in texts[1:]]
        joined = [torch.cat(each) for each in zip(*pairs, strict=True)]
        return self.match(joined[0], joined[1], video, joined[2])

    def match(self, states: Tensor, attention_mask: Tensor, video: Tensor, videos: Tensor | None = None) -> Tensor:
        """Score whether texts match videos, for matching and for re-ranking.

        Args:
            states: `(P, L, width)`, texts from `LocoMotionModel.encode_text`.
            attention_mask: `(P, L)`, 1 for words and 0 for padding.
            video: `(V, N, width)`, `last_hidden_state` of videos.
            videos: int64 `(P,)`, the video of each text; None pairs text i with video i.

        Returns:
            `(P, 2)`; column 1 is "matches".
        """
        return self.matching_head(self.locomotion.fusion_model(states, attention_mask, video, videos)[:, 0])


class LocoMotionForPreTraining(LocoMotionForVideoTextRetrieval):
    """Contrast, matching, and prediction of masked words (locomotion.md, section 4).

    Args:
        config: sizes and constants of the losses.

    Example:
        >>> tower = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
        >>> video = {**tower, "image_size": 32, "temporal_head_size": 16}
        >>> config = LocoMotionConfig(
        ...     video_config=video, text_config={**tower, "vocab_size": 60}, fusion_encoder_config=tower
        ... )
        >>> model = LocoMotionForPreTraining(config)
        >>> words, labels = torch.tensor([[1, 7, 2], [1, 8, 2]]), torch.tensor([[-100, 7, -100], [-100, -100, 2]])
        >>> output = model(torch.rand(2, 4, 3, 32, 32), words, masked_input_ids=words, masked_labels=labels)
        >>> bool(output.loss == output.contrastive_loss + output.matching_loss + output.masked_language_loss)
        True
    """

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def _add_heads(self, config: LocoMotionConfig) -> None:
        self.language_head = LanguageHead(config.text_config)

    @can_return_tuple
    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        masked_input_ids: Tensor | None = None,
        masked_labels: Tensor | None = None,
        caption_ids: Tensor | None = None,
        negative_draws: Tensor | None = None,
        negative_input_ids: Tensor | None = None,
        negative_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> LocoMotionForPreTrainingOutput:
        """Train on pairs of a video and a text; see `LocoMotionForVideoTextRetrieval.forward`.

        Args:
            pixel_values: as there, and so are the arguments that are not explained here.
            input_ids: int64 `(B, L)`, the text of each video.
            attention_mask: int64 `(B, L)`, 1 for words and 0 for padding.
            masked_input_ids: int64 `(B, L)`, the texts with masked words.
            masked_labels: int64 `(B, L)`, the words where they were masked, -100 elsewhere.
            caption_ids: int64 `(B,)`.
            negative_draws: float `(B, 2)`.
            negative_input_ids: int64 `(B, L)`.
            negative_attention_mask: int64 `(B, L)`.
            **kwargs: `return_dict`.

        Returns:
            The loss and its parts.

        Raises:
            ValueError: if an input does not fit the configuration, or masked texts are missing.
        """
        if masked_input_ids is None or masked_labels is None:
            raise ValueError("masked_input_ids and masked_labels are needed in pretraining; see `LocoMotionCollator`")
        check_clips(pixel_values, self.config.video_config)
        check_texts(
            self.config.text_config, pixel_values, input_ids=input_ids, masked_input_ids=masked_input_ids,
            masked_labels=masked_labels,
        )  # fmt: skip
        output, video = self._contrast_and_match(
            pixel_values,
            (input_ids, attention_mask),
            caption_ids,
            negative_draws,
            (negative_input_ids, negative_attention_mask),
        )
        words = self.locomotion.words(input_ids, attention_mask)
        logits = self.predict_words(masked_input_ids, words, video)
        language_loss = masked_language_loss(logits, masked_labels)
        output.loss = output.loss + self.config.masked_language_weight * language_loss
        output.masked_language_loss, output.masked_language_logits = language_loss, logits
        output.masked_language_accuracy = masked_language_accuracy(logits.detach(), masked_labels)
        return output

    def predict_words(self, masked_input_ids: Tensor, attention_mask: Tensor, video: Tensor) -> Tensor:
        """Score words of masked texts, which attend to their videos.

        Args:
            masked_input_ids: int64 `(B, L)`.
            attention_mask: `(B, L)`, 1 for words and 0 for padding.
            video: tokens `(B, N, width)`.

        Returns:
            `(B, L, words)`.
        """
        encoder = self.locomotion
        states = encoder.encode_text(masked_input_ids, attention_mask)
        table = encoder.text_model.embeddings.word_embeddings.weight
        return self.language_head(encoder.fusion_model(states, attention_mask, video), table)


class LocoMotionForVideoClassification(ClassificationHead, LocoMotionPreTrainedModel):
    """Video classifier: the mean of the video tower's tokens, dropout, linear layer; without the text tower.

    Args:
        config: sizes and labels.

    Example:
        >>> video = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 32}
        >>> config = LocoMotionConfig(video_config={**video, "temporal_head_size": 16}, num_labels=3)
        >>> model = LocoMotionForVideoClassification(config)
        >>> model(torch.zeros(2, 4, 3, 32, 32), labels=torch.tensor([0, 2])).logits.shape
        torch.Size([2, 3])
    """

    _keys_to_ignore_on_load_unexpected = [
        r"^(locomotion\.)?(text_model|fusion_model|video_projection|text_projection|video_model\.pooler)\.",
        r"^(locomotion\.)?temperature$",
        r"^matching_head\.",
        r"^language_head\.",
    ]

    def __init__(self, config: LocoMotionConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.locomotion = LocoMotionModel(config, video_only=True)
        self.add_classification_head(config.hidden_size, config.num_labels, dropout=config.head_dropout)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Score classes.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            labels: see `tubelets.objectives.classification.classification_loss`.
            **kwargs: `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if the clips or the labels do not fit.
        """
        pooled = self.locomotion(pixel_values, return_dict=True).pooler_output
        loss, logits = self.classify(pooled, labels, self.config.problem_type)
        return ImageClassifierOutput(loss=loss, logits=logits)


def nearest_is_right(similarity: Tensor, caption_ids: Tensor | None) -> Tensor:
    """Share of videos whose nearest text, and of texts whose nearest video, has the same number; a scalar."""
    scores = similarity.detach()
    ids = torch.arange(len(scores), device=scores.device) if caption_ids is None else caption_ids
    return torch.cat([ids[scores.argmax(dim=1)] == ids, ids[scores.argmax(dim=0)] == ids]).float().mean()


def several_processes() -> bool:
    """Whether this is one of several training processes."""
    dist = torch.distributed
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
