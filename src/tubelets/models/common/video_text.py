"""What search, retrieval and zero-shot classification need of a model of videos and texts."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPLATES = ("{}", "a video of {}", "a video of a person doing {}", "this video shows {}")
"""Prompts for the name of a class; ours."""


@runtime_checkable
class VideoTextModel(Protocol):
    """A model that embeds videos and texts in one space; their dot products are its similarities."""

    config: Any

    def get_video_features(self, pixel_values: Tensor) -> Tensor:
        """Embeddings `(V, D)` of videos `(V, frames, channels, height, width)`."""

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embeddings `(T, D)` of token ids `(T, tokens)`."""


@runtime_checkable
class PairScorer(Protocol):
    """A model that also reads a video and a text together and scores whether they belong, as fusion encoders do."""

    def get_match_inputs(self, pixel_values: Tensor) -> Tensor:
        """What `score_pairs` needs of videos, `(V, tokens, width)`."""

    def score_pairs(self, match_inputs: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores `(P,)` of videos `(P, tokens, width)` with texts `(P, words)`; larger is better."""


def as_video_text(model: Any) -> Any:
    """The model itself if it embeds videos and texts.

    Raises:
        TypeError: if it does not.

    Example:
        >>> as_video_text(torch.nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        TypeError: Linear does not embed texts; give a model of videos and texts, such as a VideoTextDualEncoderModel
    """
    if not isinstance(model, VideoTextModel):
        raise TypeError(
            f"{type(model).__name__} does not embed texts; give a model of videos and texts, such as a "
            "VideoTextDualEncoderModel"
        )
    return model


@torch.no_grad()
def embed_texts(model: Any, processor: Any, texts: Iterable[str], batch_size: int = 64) -> Tensor:
    """Embeddings of texts.

    Args:
        model: of videos and texts, in evaluation mode.
        processor: its processor, whose call with `text` gives `input_ids` and `attention_mask`.
        texts: the texts, at least one.
        batch_size: texts in a forward pass.

    Returns:
        float32 `(texts, D)` on the CPU, as the model gives them.

    Raises:
        TypeError: if the model does not embed texts.
        ValueError: if there are no texts.
    """
    model, words = as_video_text(model), list(texts)
    if not words:
        raise ValueError("there are no texts to embed; give at least one")
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(words), batch_size):
        batch = processor(text=words[start : start + batch_size], return_tensors="pt")
        features = model.get_text_features(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        found.append(features.float().cpu())
    return torch.cat(found)


def class_embeddings(
    model: Any, processor: Any, class_names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """A vector for each class from its name: the mean over prompts, of unit length.

    The dot product with a video's embedding classifies it without training (zero-shot).

    Args:
        model: of videos and texts, in evaluation mode.
        processor: its processor.
        class_names: names of the classes; underscores are read as spaces.
        templates: prompts with `{}` where the name goes.

    Returns:
        float32 `(classes, D)`.

    Raises:
        ValueError: if there are no names or templates, or a template has no place for the name.

    Example:
        >>> class_embeddings(None, None, ["run"], ["a video"])
        Traceback (most recent call last):
        ...
        ValueError: the template 'a video' has no '{}' for the name of a class
    """
    if not class_names or not templates:
        raise ValueError(f"give at least one class and one template, got {len(class_names)} and {len(templates)}")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no '{{}}' for the name of a class")
    prompts = [template.replace("{}", name.replace("_", " ")) for name in class_names for template in templates]
    each = F.normalize(embed_texts(model, processor, prompts), dim=1)
    return F.normalize(each.unflatten(0, (len(class_names), len(templates))).mean(dim=1), dim=1)
