"""Masks that follow moving objects: tokens on their paths are masked more often (smile.md, section 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tubelets.draws import Generators, rand, randint
from tubelets.masking.generators import TubeMaskGenerator

TRAJECTORY_TYPES = ("tube+traj_mask", "tube", "tube+picked_frame_visible")


def trajectory_tokens(boxes: Tensor, grid: tuple[int, int, int], patch_size: int = 16) -> Tensor:
    """Find the tokens that objects touch.

    Boxes of the frames of a time step are united. As in the official code, one more row and column at the bottom and
    the right count as touched, and rotation is ignored.

    Args:
        boxes: int64 `(B, N, T, 4)` as `(x1, y1, x2, y2)` in pixels; they may extend beyond the frame.
        grid: token grid `(time, rows, columns)`; T must be a multiple of its first side.
        patch_size: pixels of a token's side.

    Returns:
        Bool `(B, time * rows * columns)`, True where any object is.

    Raises:
        ValueError: if the boxes do not fit the grid.

    Example:
        >>> boxes = torch.tensor([0, 0, 10, 10]).expand(1, 1, 2, 4)
        >>> trajectory_tokens(boxes, (1, 3, 3), patch_size=10).view(3, 3).int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    time, rows, columns = grid
    if boxes.dim() != 4 or boxes.shape[3] != 4 or boxes.shape[2] % time:
        raise ValueError(
            f"boxes must be (clips, objects, frames, 4) with a multiple of {time} frames, got {tuple(boxes.shape)}"
        )
    if patch_size < 1:
        raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}")
    steps = boxes.unflatten(2, (time, -1))
    low = torch.div(steps[..., :2].amin(dim=3), patch_size, rounding_mode="floor")
    high = -torch.div(-steps[..., 2:].amax(dim=3), patch_size, rounding_mode="floor") + 1
    across = _between(low[..., 0], high[..., 0], columns)
    down = _between(low[..., 1], high[..., 1], rows)
    return (down[..., :, None] & across[..., None, :]).any(dim=1).flatten(1)


def _between(first: Tensor, last: Tensor, count: int) -> Tensor:
    """Bool `(..., count)`: which of the numbers from 0 on lie in `[first, last)`."""
    numbers = torch.arange(count, device=first.device)
    return (numbers >= first[..., None]) & (numbers < last[..., None])


def hide_trajectories(tube_mask: Tensor, trajectory: Tensor, visible: Tensor) -> Tensor:
    """Mask before balancing: the tube mask off the trajectory, and all trajectory tokens except the visible ones.

    Args:
        tube_mask: bool `(B, tokens)`.
        trajectory: bool `(B, tokens)`.
        visible: bool `(B, tokens)`, trajectory tokens to keep visible.

    Returns:
        Bool `(B, tokens)`, True = masked.

    Example:
        >>> rows = ([True, False, False], [False, True, True], [False, True, False])
        >>> tube, path, seen = (torch.tensor([row]) for row in rows)
        >>> hide_trajectories(tube, path, seen).tolist()
        [[True, False, True]]
    """
    return torch.where(trajectory, ~visible, tube_mask)


def balance(mask: Tensor, trajectory: Tensor, num_masked: int, generator: Generators) -> Tensor:
    """Mask or unmask random tokens until every clip has the same number of masked ones.

    Tokens on the trajectory change only if those off the trajectory do not suffice.

    Args:
        mask: bool `(B, tokens)`.
        trajectory: bool `(B, tokens)`.
        num_masked: how many tokens to mask in each clip.
        generator: on the device of the mask; one for the batch, or one for each clip.

    Returns:
        Bool `(B, tokens)` with `num_masked` True in each row.

    Raises:
        ValueError: if there are fewer tokens.

    Example:
        >>> mask, path = torch.tensor([[True, True, True, False]]), torch.tensor([[True, True, False, False]])
        >>> balance(mask, path, 2, torch.Generator().manual_seed(0)).tolist()
        [[True, True, False, False]]
    """
    if not 0 <= num_masked <= mask.shape[1]:
        raise ValueError(f"num_masked must lie between 0 and {mask.shape[1]} tokens, got {num_masked}")
    # Priority of being masked: masked tokens first; among masked ones those on the trajectory first, among visible
    # ones last. Noise breaks ties.
    kept = torch.where(trajectory, 3.0, 2.0)
    added = torch.where(trajectory, 0.0, 1.0)
    priority = torch.where(mask, kept, added)
    # Below half a step, so that rounding cannot lift a token into the next class.
    noise = rand(*mask.shape, generator=generator, device=mask.device) / 2
    order = (priority + noise).argsort(dim=1, descending=True)
    result = torch.zeros_like(mask)
    return result.scatter_(1, order[:, :num_masked], True)


@dataclass(frozen=True)
class TrajectoryMaskGenerator:
    """Masks that follow the boxes of moving objects, with the count of a tube mask (smile.md, section 5.2 and 5.3).

    Args:
        grid: token grid `(time, rows, columns)`.
        mask_ratio: share of the positions that the tube mask hides, in [0, 1).
        patch_size: pixels of a token's side.
        visible_ratio: share of the trajectory tokens that stays visible, in [0, 1]; for "tube+traj_mask".
        kind: "tube+traj_mask" hides all trajectory tokens except a random share; "tube" hides them except at one
            random time step, which keeps the tube mask; "tube+picked_frame_visible" shows those of that step instead.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> masks = TrajectoryMaskGenerator(grid=(8, 14, 14), mask_ratio=0.8)
        >>> boxes = torch.tensor([10, 20, 90, 70]).expand(3, 2, 16, 4)
        >>> masks(boxes, generator=torch.Generator().manual_seed(0)).sum(dim=1).tolist(), masks.num_masked
        ([1248, 1248, 1248], 1248)
    """

    grid: tuple[int, int, int]
    mask_ratio: float = 0.8
    patch_size: int = 16
    visible_ratio: float = 0.1
    kind: str = "tube+traj_mask"

    def __post_init__(self) -> None:
        TubeMaskGenerator(self.grid, self.mask_ratio)  # refuses a grid or a ratio out of range
        if self.kind not in TRAJECTORY_TYPES:
            raise ValueError(f"kind must be one of {TRAJECTORY_TYPES}, got {self.kind!r}")
        if not isinstance(self.patch_size, int) or self.patch_size < 1 or not 0 <= self.visible_ratio <= 1:
            raise ValueError(
                f"patch_size must be at least 1 and visible_ratio lie in [0, 1], got {self.patch_size} and "
                f"{self.visible_ratio}"
            )

    @property
    def num_masked(self) -> int:
        """Number of masked tokens in each clip."""
        return TubeMaskGenerator(self.grid, self.mask_ratio).num_masked

    def __call__(self, boxes: Tensor, *, generator: Generators) -> Tensor:
        """Draw masks for the boxes of a batch.

        Args:
            boxes: int64 `(B, N, T, 4)`, see `trajectory_tokens`.
            generator: on the device of the boxes; one for the batch, or one for each clip.

        Returns:
            Bool `(B, time * rows * columns)`, `True` = masked.

        Raises:
            ValueError: if the boxes do not fit the grid.
        """
        trajectory = trajectory_tokens(boxes, self.grid, self.patch_size)
        tube = TubeMaskGenerator(self.grid, self.mask_ratio)
        tube_mask = tube(len(boxes), generator=generator, device=boxes.device)
        if self.kind == "tube+traj_mask":
            mask = hide_trajectories(tube_mask, trajectory, self._visible(trajectory, generator))
        else:
            step = randint(self.grid[0], len(boxes), 1, 1, generator=generator, device=boxes.device)
            picked = torch.arange(self.grid[0], device=boxes.device)[:, None] == step
            picked = picked.expand(-1, -1, self.grid[1] * self.grid[2]).flatten(1)
            mask = tube_mask | (trajectory & ~picked)
            if self.kind == "tube+picked_frame_visible":
                mask &= ~(trajectory & picked)
        return balance(mask, trajectory, self.num_masked, generator)

    def _visible(self, trajectory: Tensor, generator: Generators) -> Tensor:
        """A random share of the trajectory tokens of each clip, rounded down."""
        noise = rand(*trajectory.shape, generator=generator, device=trajectory.device)
        order = noise.masked_fill(~trajectory, 2.0).argsort(dim=1)
        # The inverse of a permutation; sorting it would cost as much as the first sort.
        numbers = torch.arange(order.shape[1], device=order.device).expand_as(order)
        ranks = torch.empty_like(order).scatter_(1, order, numbers)
        # float64: in float32 a share such as 0.1 of 10 tokens could be below 1.
        counts = (self.visible_ratio * trajectory.sum(dim=1, keepdim=True).double()).floor()
        return trajectory & (ranks < counts)
