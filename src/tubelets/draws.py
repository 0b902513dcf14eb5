"""Random draws for a batch from one generator, or from one generator per sample.

Masks and motions of a sample must depend on its own seed alone, and a call per sample costs many times as much as one
for the batch. So only the random numbers are drawn sample by sample, and everything that is computed from them runs for
the whole batch. A row is bit for bit what its generator draws for a batch of one.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for a batch, or one for each of its samples."""


def rand(
    *shape: int,
    generator: Generators | None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw uniform numbers in [0, 1).

    Args:
        *shape: shape of the result.
        generator: one generator, None for torch's global one, or several, which share the rows of the first dimension
            equally and in order.
        device: device of the generators and the result.
        dtype: floating-point type of the result; None is float32.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: if the rows cannot be shared equally.

    Example:
        >>> one, two = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        >>> both = rand(2, 3, generator=[one, two])
        >>> torch.equal(both[1:], rand(1, 3, generator=two.manual_seed(2)))
        True
    """
    return _draw(lambda part, each: torch.rand(part, generator=each, device=device, dtype=dtype), shape, generator)


def randint(stop: int, *shape: int, generator: Generators | None, device: torch.device | str | None = None) -> Tensor:
    """Draw integers from 0 to `stop - 1`.

    Args:
        stop: number of values.
        *shape: shape of the result.
        generator: see `rand`.
        device: device of the generators and the result.

    Returns:
        int64 of that shape.

    Raises:
        ValueError: if there is no value to draw, or the rows cannot be shared equally.

    Example:
        >>> randint(5, 2, 3, generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)]).shape
        torch.Size([2, 3])
    """
    if stop < 1:
        raise ValueError(f"stop must be at least 1, so that there is a value to draw, got {stop}")
    return _draw(lambda part, each: torch.randint(stop, part, generator=each, device=device), shape, generator)


def categorical(probabilities: Sequence[float], count: int, *, generator: Generators) -> Tensor:
    """Draw categories with replacement.

    Args:
        probabilities: of the categories.
        count: number of draws.
        generator: see `rand`; its device is that of the result.

    Returns:
        int64 `(count,)`.

    Raises:
        ValueError: if a probability is out of range, or the draws cannot be shared equally among the generators.

    Example:
        >>> categorical([0.0, 1.0], 3, generator=torch.Generator().manual_seed(0)).tolist()
        [1, 1, 1]
    """
    if not all(0 <= each < math.inf for each in probabilities) or not sum(probabilities) > 0:
        raise ValueError(f"probabilities must be finite and not negative, with one above 0, got {list(probabilities)}")
    weights = torch.tensor(probabilities, dtype=torch.float64, device=device_of(generator))
    return _draw(lambda part, each: torch.multinomial(weights, part[0], True, generator=each), (count,), generator)


def device_of(generator: Generators) -> torch.device:
    """The device of one generator, or of the first of several.

    Example:
        >>> device_of([torch.Generator(), torch.Generator()])
        device(type='cpu')
    """
    return generator.device if isinstance(generator, torch.Generator) else generator[0].device


def _draw(
    draw: Callable[[tuple[int, ...], torch.Generator | None], Tensor],
    shape: tuple[int, ...],
    generator: Generators | None,
) -> Tensor:
    if generator is None or isinstance(generator, torch.Generator):
        return draw(shape, generator)
    if not generator or shape[0] % len(generator):
        raise ValueError(
            f"{len(generator)} generators cannot share {shape[0]} rows equally; pass one generator for each sample"
        )
    part = (shape[0] // len(generator), *shape[1:])
    return torch.cat([draw(part, each) for each in generator])
