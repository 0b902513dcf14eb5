"""When and which way round the frames of a video are shown: presentation times, frame rates, display matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import av

# Time stamps of Matroska are rounded to milliseconds.
_ROUNDING = 1e-3
# The rate of a video that states none and whose frames have no time stamps.
_USUAL_RATE = 25.0


def edges_of(stamps: Sequence[int | None], stays: int, tick: float, origin: float, rate: float) -> np.ndarray:
    """Turn time stamps into the times at which each frame appears and disappears.

    Args:
        stamps: time stamps of the frames in ticks, None where unknown. If some are unknown or equal, frames are laid
            out at `rate`; if they do not rise, the frames have them in rising order.
        stays: ticks that the last frame is shown; 0 if unknown, which is then the usual distance.
        tick: seconds of a tick.
        origin: time stamp of the start of the file in seconds.
        rate: stated frames per second, 0 if unknown.

    Returns:
        float64 `(frames + 1,)`, rising: frame i is shown from `edges[i]` to `edges[i + 1]`, in seconds from the start
        of the file.

    Example:
        >>> edges_of([5, 6, 10], 1, 0.1, origin=0.5, rate=25.0).round(2).tolist()
        [0.0, 0.1, 0.5, 0.6]
    """
    known = np.unique([stamp for stamp in stamps if stamp is not None]) * tick
    if len(known) < len(stamps) or tick <= 0:
        start = 0.0 if stamps[0] is None else max(stamps[0] * tick - origin, 0.0)
        return np.arange(len(stamps) + 1) / (rate or _USUAL_RATE) + start
    last = stays * tick
    if last <= 0:
        last = float(np.median(np.diff(known))) if len(known) > 1 else 1 / (rate or _USUAL_RATE)
    return np.append(known, known[-1] + last) - origin


def rate_of(edges: np.ndarray, stated: float = 0.0) -> float:
    """Frames per second, from the times at which frames are shown.

    Args:
        edges: see `edges_of`; a part of them gives the rate of that part.
        stated: the rate that the file states; returned if it agrees with the times up to their rounding.

    Returns:
        Frames per second.

    Example:
        >>> edges = np.array([0.0, 0.033, 0.067, 0.1, 0.6])
        >>> rate_of(edges), rate_of(edges[:4], stated=29.97)
        (6.666666666666667, 29.97)
    """
    count, span = len(edges) - 1, float(edges[-1] - edges[0])
    if stated > 0 and (span <= 0 or abs(count / stated - span) <= 2 * _ROUNDING):
        return stated
    return count / span if span > 0 else _USUAL_RATE


def orientation_of(frame: "av.VideoFrame") -> tuple[bool, bool, bool]:
    """How a frame must be turned to be upright, by its display matrix.

    Args:
        frame: a decoded frame.

    Returns:
        Whether to swap rows and columns, then whether to reverse the rows, and the columns. Angles are rounded to
        quarter turns.
    """
    matrix = _display_matrix(frame)
    if matrix is None:
        return False, False, False
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    (a, b), (c, d) = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def _display_matrix(frame: "av.VideoFrame") -> tuple[tuple[int, int], tuple[int, int]] | None:
    from av.sidedata.sidedata import Type

    # PyAV's stub lacks the type of the keys.
    data = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.int32)
    return (int(values[0]), int(values[1])), (int(values[3]), int(values[4]))


def upright(pixels: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """Turn an image.

    Args:
        pixels: `(H, W, C)`.
        orientation: see `orientation_of`.

    Returns:
        A view.

    Example:
        >>> upright(np.arange(6).reshape(2, 3, 1), (True, False, True))[..., 0].tolist()
        [[3, 0], [4, 1], [5, 2]]
    """
    swapped, rows, columns = orientation
    pixels = pixels.swapaxes(0, 1) if swapped else pixels
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]
