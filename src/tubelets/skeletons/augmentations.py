"""Spatial augmentations of skeletons, vectorised over a batch (skeleton_contrast.md, sections 5.2 and 5.3).

What is random is drawn first, as matrices and masks; applying it is one product for the whole batch.
"""

import torch
from torch import Tensor

from tubelets.draws import Generators, rand
from tubelets.skeletons.layouts import SkeletonLayout


def shear_matrices(drawn: Tensor, strength: float = 1.0) -> Tensor:
    """Matrices with ones on the diagonal and random entries beside it.

    Args:
        drawn: uniform numbers in [0, 1), `(B, D * (D - 1))` for D dimensions, row by row.
        strength: entries lie in [-strength, strength).

    Returns:
        `(B, D, D)`; a joint p becomes S p.

    Raises:
        ValueError: if the number of entries fits no matrix.

    Example:
        >>> shear_matrices(torch.zeros(1, 6))[0].tolist()
        [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    size = round((1 + (1 + 4 * drawn.shape[1]) ** 0.5) / 2)
    if size * (size - 1) != drawn.shape[1]:
        raise ValueError(f"a shear needs D * (D - 1) numbers, got {drawn.shape[1]}")
    matrices = torch.eye(size, dtype=drawn.dtype, device=drawn.device).repeat(len(drawn), 1, 1)
    beside = ~torch.eye(size, dtype=torch.bool, device=drawn.device)
    matrices[:, beside] = (2 * drawn - 1) * strength
    return matrices


def chosen_joints(drawn: Tensor, count: int) -> Tensor:
    """Choose joints without replacement.

    Args:
        drawn: uniform numbers, `(B, joints)`; those with the smallest are chosen.
        count: joints to choose; of fewer joints all are.

    Returns:
        Bool `(B, joints)`.

    Example:
        >>> chosen_joints(torch.tensor([[0.3, 0.1, 0.2]]), 2).tolist()
        [[False, True, True]]
    """
    return drawn.argsort(dim=1).argsort(dim=1) < count


def transform_joints(skeletons: Tensor, matrices: Tensor, joints: Tensor | None = None) -> Tensor:
    """Multiply joints by a matrix for each sample, in all frames and bodies.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`; coordinates beyond the matrix, such as a
            confidence, are kept.
        matrices: `(B, D, D)`; a joint p becomes matrix @ p. Zeros make joints missing.
        joints: bool `(B, joints)`, the joints to change; None is all.

    Returns:
        A new tensor of the same shape and type.

    Raises:
        ValueError: if the matrices have more dimensions than the joints, or another number of samples.

    Example:
        >>> doubled = transform_joints(torch.ones(1, 1, 1, 2, 3), 2 * torch.eye(3)[None], torch.tensor([[True, False]]))
        >>> doubled.flatten().tolist()
        [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    """
    size = matrices.shape[-1]
    if len(matrices) != len(skeletons) or size > skeletons.shape[-1]:
        raise ValueError(
            f"matrices {tuple(matrices.shape)} do not fit skeletons {tuple(skeletons.shape)}; pass (B, D, D) with D up "
            "to the number of coordinates"
        )
    matrices = matrices.to(skeletons.device, skeletons.dtype, non_blocking=True)
    # One product for each sample; one for each body and frame would take several times as long.
    moved = (skeletons[..., :size].flatten(1, 3) @ matrices.transpose(1, 2)).view(*skeletons.shape[:4], size)
    if joints is not None:
        kept = ~joints.to(skeletons.device, non_blocking=True)[:, None, None, :, None]
        moved = torch.where(kept, skeletons[..., :size], moved)
    return moved if size == skeletons.shape[-1] else torch.cat([moved, skeletons[..., size:]], dim=-1)


def shear(skeletons: Tensor, generator: Generators, strength: float = 1.0, dimensions: int | None = None) -> Tensor:
    """Pose augmentation: shear the skeletons of each sample by a random matrix (skeleton_contrast.md, section 5.2).

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`.
        generator: source of the draw; one for all samples, or one for each.
        strength: entries beside the diagonal lie in [-strength, strength).
        dimensions: coordinates that are positions; None is all.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> shear(torch.ones(2, 1, 4, 17, 2), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 4, 17, 2])
    """
    size = skeletons.shape[-1] if dimensions is None else dimensions
    drawn = rand(len(skeletons), size * (size - 1), generator=generator)
    return transform_joints(skeletons, shear_matrices(drawn, strength))


def jitter(skeletons: Tensor, generator: Generators, count: int = 15, dimensions: int | None = None) -> Tensor:
    """Joint jittering: random joints of each sample are zeroed, or all multiplied by one random matrix.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`.
        generator: source of the draws; one for all samples, or one for each.
        count: joints that change, the same in all frames and bodies.
        dimensions: coordinates that are positions; None is all.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> found = jitter(torch.ones(1, 1, 4, 25, 3), torch.Generator().manual_seed(0), count=5)
        >>> (found != 1).any(dim=-1).sum().item()  # 5 joints of 4 frames
        20

    Source: skeleton_contrast.md, section 5.3.
    """
    size = skeletons.shape[-1] if dimensions is None else dimensions
    joints = chosen_joints(rand(len(skeletons), skeletons.shape[3], generator=generator), count)
    return transform_joints(skeletons, jitter_matrices(rand(len(skeletons), 1 + size**2, generator=generator)), joints)


def jitter_matrices(drawn: Tensor) -> Tensor:
    """Matrices of joint jittering: zero with probability 1/2, else with all entries uniform in [-1, 1).

    Args:
        drawn: uniform numbers `(B, 1 + D * D)`: the decision, then the entries row by row.

    Returns:
        `(B, D, D)`; a joint p becomes J p. The paper's joints are rows and multiply J from the left, so that the drawn
        entries are those of the transposed matrix.

    Raises:
        ValueError: if the number of entries fits no square matrix.

    Example:
        >>> jitter_matrices(torch.tensor([[0.4, 1, 1, 1, 1], [0.6, 1, 0.5, 1, 1]])).tolist()
        [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]]]
    """
    size = round((drawn.shape[1] - 1) ** 0.5)
    if size**2 != drawn.shape[1] - 1:
        raise ValueError(f"jittering needs 1 + D * D numbers, got {drawn.shape[1]}")
    matrices = (2 * drawn[:, 1:] - 1).unflatten(1, (size, size)).transpose(1, 2)
    return torch.where((drawn[:, 0] < 0.5)[:, None, None], 0, matrices)


def mirror(skeletons: Tensor, layout: SkeletonLayout, chosen: Tensor, axis: int = 0) -> Tensor:
    """Mirror samples: left and right joints change places and one coordinate its sign.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`, centred on the mirror.
        layout: names the sides.
        chosen: bool `(B,)`, the samples to mirror.
        axis: coordinate that points to the side.

    Returns:
        A new tensor of the same shape.

    Raises:
        ValueError: if the skeletons have another number of joints than the layout.

    Example:
        >>> from tubelets.skeletons.layouts import SkeletonLayout
        >>> eyes = SkeletonLayout.of("eyes", ["left_eye", "right_eye"], [])
        >>> mirror(torch.tensor([[-1.0, 5.0], [2.0, 6.0]]).view(1, 1, 1, 2, 2), eyes, torch.tensor([True]))[0, 0, 0]
        tensor([[-2.,  6.],
                [ 1.,  5.]])
    """
    if skeletons.shape[3] != layout.num_joints:
        raise ValueError(
            f"layout {layout.name!r} has {layout.num_joints} joints, got skeletons of {skeletons.shape[3]}"
        )
    swapped = skeletons[:, :, :, list(layout.mirrored)]
    sign = torch.ones(skeletons.shape[-1], dtype=skeletons.dtype, device=skeletons.device)
    sign[axis] = -1
    return torch.where(chosen.to(skeletons.device)[:, None, None, None, None], swapped * sign, skeletons)
