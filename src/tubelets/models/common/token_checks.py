"""Checks of token ids at a model's door: types and shapes only, as those of `batch_checks`."""

import torch
from torch import Tensor

INTEGERS = (torch.int64, torch.int32)


def check_tokens(input_ids: Tensor, attention_mask: Tensor | None = None, batch: int | None = None) -> None:
    """Reject ids that are no integers, texts without tokens, and masks of another shape.

    Args:
        input_ids: integers `(B, tokens)`.
        attention_mask: integers `(B, tokens)`, 0 at padding; None if nothing is padded.
        batch: number of texts that is expected; None accepts any.

    Raises:
        ValueError: naming the input, what was found and what was expected.

    Example:
        >>> check_tokens(torch.zeros(2, 0, dtype=torch.long))
        Traceback (most recent call last):
        ...
        ValueError: input_ids has shape (2, 0), expected (texts, tokens) with at least one of each
    """
    given = {"input_ids": input_ids} | ({} if attention_mask is None else {"attention_mask": attention_mask})
    for name, value in given.items():
        if value.dtype not in INTEGERS:
            raise ValueError(f"{name} must be int64, got {value.dtype}; tokenise the text with the model's processor")
        if value.ndim != 2 or 0 in value.shape[1:]:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected (texts, tokens) with at least one of each"
            )
    if torch.compiler.is_compiling():
        return
    if not len(input_ids):
        raise ValueError(f"input_ids has shape {tuple(input_ids.shape)} and no clips; pass at least one")
    if batch is not None and len(input_ids) != batch:
        raise ValueError(
            f"the inputs have different numbers of clips, {batch} videos and {len(input_ids)} texts; pass those of the "
            "same clips"
        )
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected that of input_ids, "
            f"{tuple(input_ids.shape)}"
        )
