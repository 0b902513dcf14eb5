"""Augmented views of skeleton clips for contrastive learning (skeleton_contrast.md, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from tubelets.draws import Generators, rand
from tubelets.ranges import Count, Fraction, NotNegative, Range, check_ranges
from tubelets.skeletons.augmentations import chosen_joints, jitter_matrices, shear_matrices, transform_joints
from tubelets.skeletons.temporal import crop_resize, crops_of

AUGMENTATIONS = ("temporal", "pose", "jitter")
"""Augmentations of a view; the paper uses all of them."""


@dataclass(frozen=True)
class ViewSettings:
    """How views are drawn.

    Attributes:
        num_frames: frames of a view.
        augmentations: a subset of `AUGMENTATIONS`. With "pose" and "jitter" each view gets one of them, at random;
            without "temporal" the whole clip is resized.
        min_crop_ratio: smallest share of the frames of a temporal crop.
        min_crop_frames: fewest frames of a temporal crop.
        jitter_joints: joints that jittering changes; in layouts with fewer joints, all.
        shear_strength: largest entry of the pose augmentation's matrix beside its diagonal.
        num_dimensions: coordinates of a joint that are positions, 2 or 3; a confidence after them is kept.

    Raises:
        ValueError: if an augmentation is unknown or given twice.
        tubelets.ranges.RangeError: if a number is out of range.

    Example:
        >>> ViewSettings(augmentations=("pose",)).spatial
        ('pose',)
    """

    num_frames: Count = 64
    augmentations: tuple[str, ...] = AUGMENTATIONS
    min_crop_ratio: Fraction = 0.1
    min_crop_frames: Count = 64
    jitter_joints: Count = 15
    shear_strength: NotNegative = 1.0
    num_dimensions: Annotated[int, Range("[1, 3]", whole=True)] = 3

    def __post_init__(self) -> None:
        check_ranges(self)
        if not set(self.augmentations) <= set(AUGMENTATIONS) or len(set(self.augmentations)) < len(self.augmentations):
            raise ValueError(f"augmentations must be some of {', '.join(AUGMENTATIONS)}, got {self.augmentations}")

    @property
    def spatial(self) -> tuple[str, ...]:
        """The spatial augmentations, of which each view gets one."""
        return tuple(name for name in AUGMENTATIONS[1:] if name in self.augmentations)


@dataclass(frozen=True)
class ViewPlan:
    """What is drawn for one view of each clip of a batch.

    Attributes:
        starts: int64 `(B,)`, first frame of each temporal crop.
        lengths: int64 `(B,)`, its frames.
        matrices: `(B, D, D)`, by which joints are multiplied; the identity changes nothing.
        joints: bool `(B, joints)`, the joints that are multiplied.
    """

    starts: Tensor
    lengths: Tensor
    matrices: Tensor
    joints: Tensor

    def apply(self, skeletons: Tensor, num_frames: int) -> Tensor:
        """Cut, resize and transform clips, on their device.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`, zero behind the valid frames.
            num_frames: frames of the views.

        Returns:
            Float `(B, bodies, num_frames, joints, coordinates)`.
        """
        return transform_joints(
            crop_resize(skeletons, self.starts, self.lengths, num_frames), self.matrices, self.joints
        )


def draw_views(settings: ViewSettings, lengths: Tensor, num_joints: int, generator: Generators) -> ViewPlan:
    """Draw one view of each clip of a batch.

    Args:
        settings: the augmentations.
        lengths: int64 `(B,)`, valid frames of each clip, at least 1.
        num_joints: joints of the layout.
        generator: source of the draws; one for all clips, or one for each, so that a clip's view depends on its own
            seed alone.

    Returns:
        The plan, on the CPU.

    Raises:
        ValueError: if a clip is empty.

    Example:
        >>> plan = draw_views(ViewSettings(), torch.tensor([90, 300]), 25, torch.Generator().manual_seed(0))
        >>> plan.apply(torch.rand(2, 2, 300, 25, 3), 64).shape
        torch.Size([2, 2, 64, 25, 3])
    """
    if not lengths.numel() or int(lengths.min()) < 1:
        raise ValueError(f"every clip must have a frame, got lengths {lengths.tolist()[:8]}")
    size = settings.num_dimensions
    # One draw for all augmentations: a generator is asked once for each clip, not once for each decision.
    parts = [2, 1, size * (size - 1), 1 + size**2, num_joints]
    drawn = rand(len(lengths), sum(parts), generator=generator, dtype=torch.float64).split(parts, dim=1)
    crop, choice, entries, jittered, order = drawn
    starts, frames = torch.zeros_like(lengths), lengths
    if "temporal" in settings.augmentations:
        limits = settings.min_crop_ratio, settings.min_crop_frames
        starts, frames = crops_of(lengths, crop[:, 0], crop[:, 1], *limits)
    sheared = shear_matrices(entries, settings.shear_strength)
    options = {"pose": sheared, "jitter": jitter_matrices(jittered)}
    matrices = torch.eye(size, dtype=drawn[0].dtype).expand_as(sheared)
    is_jitter = torch.full((len(lengths),), settings.spatial == ("jitter",))
    if len(settings.spatial) == 2:
        is_jitter = choice[:, 0] >= 0.5
    if settings.spatial:
        matrices = torch.where(is_jitter[:, None, None], options["jitter"], options["pose"])
    joints = chosen_joints(order, settings.jitter_joints) | ~is_jitter[:, None]
    return ViewPlan(starts, frames, matrices.float(), joints)


def pad_clips(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack clips of different lengths.

    Args:
        clips: float `(bodies, frames, joints, coordinates)`, equal but for the frames.

    Returns:
        `(B, bodies, longest, joints, coordinates)` with zeros behind each clip, and its frames, int64 `(B,)`.

    Raises:
        ValueError: if there is no clip, or their bodies, joints or coordinates differ.

    Example:
        >>> padded, lengths = pad_clips([torch.ones(1, 2, 17, 3), torch.ones(1, 5, 17, 3)])
        >>> padded.shape, lengths.tolist()
        (torch.Size([2, 1, 5, 17, 3]), [2, 5])
    """
    shapes = {(clip.shape[0], *clip.shape[2:]) for clip in clips}
    if len(shapes) != 1:
        raise ValueError(
            f"the clips of a batch must have the same bodies, joints and coordinates, got {sorted(shapes)}; convert "
            "them to one layout"
        )
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    first = clips[0]
    padded = first.new_zeros((len(clips), first.shape[0], int(lengths.max()), *first.shape[2:]))
    for place, clip in enumerate(clips):
        padded[place, :, : clip.shape[1]] = clip
    return padded, lengths
