"""Adjacency matrices of a layout, as graph convolutions use them."""

import torch
from torch import Tensor

from tubelets.skeletons.layouts import SkeletonLayout


def directed_adjacency(layout: SkeletonLayout) -> Tensor:
    """AGCN's three subsets: each joint itself, bones towards the centre, bones away from it.

    Columns of the last two are divided by their sums; a column of zeros stays zero.

    Args:
        layout: joints and bones (child, parent).

    Returns:
        Float32 `(3, joints, joints)`; entry `[k, j, i]` connects joint i to joint j.

    Example:
        >>> from tubelets.skeletons.layouts import KINECT_25
        >>> directed_adjacency(KINECT_25)[1].sum(dim=0)[:4].tolist()
        [1.0, 1.0, 1.0, 1.0]

    Source: skeleton_contrast.md, section 3.2.
    """
    inward = torch.zeros(layout.num_joints, layout.num_joints)
    for child, parent in layout.bones:
        inward[parent, child] = 1
    return torch.stack([torch.eye(layout.num_joints), _column_normalised(inward), _column_normalised(inward.T)])


def distance_adjacency(layout: SkeletonLayout) -> Tensor:
    """ST-GCN's three subsets of the symmetric graph with self loops, whose columns are divided by their sums.

    Neighbours are divided by their distance to the layout's centre, counted up to one bone: subset 0 is the diagonal,
    subset 1 leads from joints that are not farther away than the neighbour, subset 2 the others. The public code counts
    no farther than one bone, so that all joints beyond count as equally far; the paper's drawing differs.

    Args:
        layout: joints, bones and centre.

    Returns:
        Float32 `(3, joints, joints)`.

    Example:
        >>> from tubelets.skeletons.layouts import COCO_17
        >>> distance_adjacency(COCO_17).sum(dim=(0, 1)).allclose(torch.ones(17))
        True

    Source: skeleton_contrast.md, section 3.4.
    """
    neighbours = torch.eye(layout.num_joints)
    for child, parent in layout.bones:
        neighbours[child, parent] = neighbours[parent, child] = 1
    scaled, itself = _column_normalised(neighbours), torch.eye(layout.num_joints, dtype=torch.bool)
    # 0 at the centre, 1 beside it, infinity beyond; without indexing, which networks without memory cannot trace.
    distance = torch.where(neighbours[layout.centre] > 0, 1.0, torch.inf).where(~itself[layout.centre], 0.0)
    not_nearer = (distance[:, None] >= distance) & ~itself
    nearer = (distance[:, None] < distance) & ~itself
    return torch.stack([scaled * itself, scaled * not_nearer, scaled * nearer])


def _column_normalised(matrix: Tensor) -> Tensor:
    sums = matrix.sum(dim=0)
    return matrix / torch.where(sums > 0, sums, 1)
