"""Checks of a batch at a model's door: types and shapes only, so that no accelerator is waited for."""

import torch
from torch import Tensor


def check_batch(**inputs: Tensor | None) -> None:
    """Reject a batch without clips, inputs of different numbers of clips, and integers other than raw pixels.

    Args:
        **inputs: inputs of a model by name, the clips first; None for those that are not given.

    Raises:
        ValueError: naming the input, what was found and what to do.

    Example:
        >>> check_batch(pixel_values=torch.zeros(0, 2, 3, 8, 8))
        Traceback (most recent call last):
        ...
        ValueError: pixel_values has shape (0, 2, 3, 8, 8) and no clips; pass at least one
    """
    given = {name: value for name, value in inputs.items() if value is not None}
    for name, value in given.items():
        is_pixels = name.endswith("pixel_values") and value.dtype == torch.uint8
        if not value.is_floating_point() and not is_pixels:
            kinds = "raw uint8 or normalised float" if name.endswith("pixel_values") else "float"
            raise ValueError(f"{name} must be {kinds}, got {value.dtype}; convert it with the model's processor")
    if torch.compiler.is_compiling():
        # Numbers of clips are symbols while a model is traced; comparing them would fix them.
        return
    for name, value in given.items():
        if value.shape[0] == 0:
            raise ValueError(f"{name} has shape {tuple(value.shape)} and no clips; pass at least one")
    if len({value.shape[0] for value in given.values()}) > 1:
        found = " and ".join(f"{value.shape[0]} of {name}" for name, value in given.items())
        raise ValueError(f"the inputs have different numbers of clips, {found}; pass those of the same clips")


def check_mask(mask: Tensor, name: str = "bool_masked_pos") -> None:
    """Reject a mask that is not of truth values; numbers could mean either way round.

    Args:
        mask: any shape.
        name: its argument.

    Raises:
        ValueError: if its type is another one.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} must be bool, True = masked, got {mask.dtype}; convert it with `mask.bool()`")
