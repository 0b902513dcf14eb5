"""Positions of tokens on a grid: sines and cosines, fixed or trained."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tubelets.models.backbones.audio_vit.spectrograms import take_tokens


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine table: the first half of the width encodes the column, the second the row.

    Args:
        rows: rows of the grid.
        columns: columns of the grid, the faster axis of the tokens.
        width: a multiple of 4; each half holds the sines, then the cosines of `n / 10000^(4 * j / width)`.

    Returns:
        float32 `(1, rows * columns, width)`, computed in float64.

    Example:
        >>> grid_positions(1, 2, 4)[0]
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0000, 1.0000]])
    """
    # Always on the CPU: models are also built with the meta device as default.
    place = torch.arange(rows * columns, dtype=torch.float64, device="cpu")
    rate = 10000.0 ** -(4 * torch.arange(width // 4, dtype=torch.float64, device="cpu") / width)
    angles = [place.remainder(columns)[:, None] * rate, place.div(columns, rounding_mode="floor")[:, None] * rate]
    return torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1).float()[None]


class PositionTable(nn.Module):
    """Positions of the tokens of a grid: sines and cosines, fixed or trained, and saved in checkpoints.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        width: width of a token.
        learned: whether they are trained.
        class_token: whether a class token with a position of zeros comes first.
        table: builds another table than `grid_positions`.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        width: int,
        learned: bool,
        class_token: bool = False,
        table: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.class_token = class_token
        # Partial functions and not lambdas, so that models can be pickled.
        self.make_table = table or partial(grid_positions, rows, columns, width)
        count = self.make_table().shape[1] + class_token
        if learned:
            self.position_embeddings = nn.Parameter(torch.zeros(1, count, width))
        else:
            # Saved as well: not all official tables equal those of their grids.
            self.register_buffer("position_embeddings", torch.zeros(1, count, width))

    def initial(self) -> Tensor:
        """The table that training starts from, `(1, tokens, width)`."""
        table = self.make_table()
        return torch.cat([torch.zeros_like(table[:, :1]), table], dim=1) if self.class_token else table

    @torch.no_grad()
    def resize(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Crop the table to the first rows and columns of its grid, or compute that of a larger grid.

        Args:
            old: rows and columns of the present grid.
            new: rows and columns of the new one.

        Raises:
            ValueError: if the new grid is larger and the table cannot be computed, because it was trained.
        """
        start, place = int(self.class_token), self.position_embeddings
        width = place.shape[2]
        larger = new[0] > old[0] or new[1] > old[1]
        if larger and not torch.allclose(place, self.initial().to(place), atol=1e-5):
            raise ValueError(
                f"positions of a grid of {old} tokens cannot be extended to {new}: they were trained, or are not sines "
                "of that grid; choose shorter spectrograms"
            )
        self.make_table = partial(grid_positions, *new, width)
        grid = place[:, start:].unflatten(1, old)[:, : new[0], : new[1]].flatten(1, 2)
        table = self.initial().to(place) if larger else torch.cat([place[:, :start], grid], dim=1)
        if isinstance(place, nn.Parameter):
            self.position_embeddings = nn.Parameter(table, requires_grad=place.requires_grad)
        else:
            self.position_embeddings = table

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Positions of the tokens `ids`, int64 `(B, M)`, or of all; without the class token's."""
        table = self.position_embeddings[:, int(self.class_token) :]
        return table if ids is None else take_tokens(table, ids)
