"""The three ways in which a skeleton clip is written (skeleton_contrast.md, section 2).

Everywhere else skeletons are `(B, bodies, frames, joints, coordinates)`, the order in which they are stored.
"""

from torch import Tensor

REPRESENTATIONS = ("sequence", "graph", "image")
"""Names of the representations: for recurrent, graph and 2-D convolutional networks."""


def check_skeletons(skeletons: Tensor) -> None:
    """Reject a tensor that is not a batch of skeletons.

    Args:
        skeletons: should be float `(B, bodies, frames, joints, coordinates)`.

    Raises:
        ValueError: if it has another type, another number of dimensions or an empty one other than the batch.
    """
    if skeletons.ndim != 5 or not skeletons.is_floating_point() or 0 in skeletons.shape[1:]:
        raise ValueError(
            f"skeletons must be float (B, bodies, frames, joints, coordinates), none of them empty, got "
            f"{skeletons.dtype} {tuple(skeletons.shape)}"
        )


def as_sequence(skeletons: Tensor) -> Tensor:
    """A vector for each frame: number v * C * M + c * M + m of joint v, coordinate c and body m.

    Args:
        skeletons: `(B, bodies, frames, joints, coordinates)`.

    Returns:
        `(B, frames, joints * coordinates * bodies)`.

    Example:
        >>> import torch
        >>> as_sequence(torch.zeros(2, 2, 64, 25, 3)).shape
        torch.Size([2, 64, 150])
    """
    return skeletons.permute(0, 2, 3, 4, 1).flatten(2)


def as_image(skeletons: Tensor) -> Tensor:
    """Pixels: frames are rows, joints are columns, coordinates are colours; one picture for each body.

    Graph networks take the same tensor and know from the bones which columns are neighbours.

    Args:
        skeletons: `(B, bodies, frames, joints, coordinates)`.

    Returns:
        A view `(B, coordinates, frames, joints, bodies)`.

    Example:
        >>> import torch
        >>> as_image(torch.zeros(2, 2, 64, 25, 3)).shape
        torch.Size([2, 3, 64, 25, 2])
    """
    return skeletons.permute(0, 4, 2, 3, 1)


as_graph = as_image
