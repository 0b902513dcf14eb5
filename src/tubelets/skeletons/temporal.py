"""Temporal crops of skeletons, resized to a fixed number of frames, for a whole batch at once."""

import torch
from torch import Tensor

from tubelets.draws import Generators, rand


def random_crops(
    lengths: Tensor, generator: Generators, min_ratio: float = 0.1, min_frames: int = 64
) -> tuple[Tensor, Tensor]:
    """Draw a crop of each clip: a random share of its frames at a random place.

    A crop has `floor(n * s)` of n frames with s uniform in `[min_ratio, 1)`, at least `min_frames`; a clip of no more
    than that is not cropped.

    Args:
        lengths: int64 `(B,)`, valid frames of each clip, at least 1.
        generator: source of the draws; one for all clips, or one for each.
        min_ratio: smallest share of the frames, in [0, 1].
        min_frames: fewest frames of a crop.

    Returns:
        First frame and number of frames of each crop, int64 `(B,)`, on the CPU.

    Raises:
        ValueError: if the share or the number of frames is out of range, or a clip is empty.

    Example:
        >>> starts, frames = random_crops(torch.tensor([300, 40]), torch.Generator().manual_seed(0))
        >>> bool((starts + frames <= torch.tensor([300, 40])).all()), frames[1].item()
        (True, 40)

    Source: skeleton_contrast.md, section 5.1.
    """
    if not 0 <= min_ratio <= 1 or min_frames < 1:
        raise ValueError(f"min_ratio must lie in [0, 1] and min_frames be at least 1, got {min_ratio} and {min_frames}")
    if not lengths.numel() or int(lengths.min()) < 1:
        raise ValueError(f"every clip must have a frame, got lengths {lengths.tolist()[:8]}")
    drawn = rand(len(lengths), 2, generator=generator, dtype=torch.float64)
    return crops_of(lengths, drawn[:, 0], drawn[:, 1], min_ratio, min_frames)


def crops_of(
    lengths: Tensor, shares: Tensor, places: Tensor, min_ratio: float = 0.1, min_frames: int = 64
) -> tuple[Tensor, Tensor]:
    """The crops of uniform numbers; see `random_crops`, which draws them.

    Args:
        lengths: int64 `(B,)`.
        shares: float64 `(B,)` in [0, 1), how long each crop is.
        places: float64 `(B,)` in [0, 1), where it lies.
        min_ratio: smallest share of the frames.
        min_frames: fewest frames of a crop.

    Returns:
        First frame and number of frames of each crop, int64 `(B,)`.
    """
    wanted = (lengths * (shares * (1 - min_ratio) + min_ratio)).floor().long()
    frames = torch.minimum(wanted.clamp(min=min_frames), lengths)
    return (places * (lengths - frames + 1)).floor().long(), frames


def central_crops(lengths: Tensor, share: float = 0.95) -> tuple[Tensor, Tensor]:
    """The middle of each clip.

    Args:
        lengths: int64 `(B,)`, valid frames of each clip, at least 1.
        share: of the frames that is kept, in (0, 1].

    Returns:
        First frame and number of frames of each crop, int64 `(B,)`.

    Raises:
        ValueError: if the share is out of range.

    Example:
        >>> central_crops(torch.tensor([300, 41, 1]))
        (tensor([7, 1, 0]), tensor([286, 39, 1]))

    Source: skeleton_contrast.md, section 7.1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    starts = ((1 - share) * lengths.double() / 2).long()
    return starts, lengths - 2 * starts


def crop_resize(skeletons: Tensor, starts: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
    """Cut a crop out of each clip and resize it to the same number of frames, linearly in time.

    Output frame i lies at `(i + 0.5) * L / num_frames - 0.5` of the L frames of a crop, not before the first one.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`.
        starts: int64 `(B,)`, first frame of each crop.
        lengths: int64 `(B,)`, its frames, at least 1.
        num_frames: frames of the result, at least 1.

    Returns:
        Float `(B, bodies, num_frames, joints, coordinates)`.

    Raises:
        ValueError: if `num_frames` is not positive.

    Example:
        >>> clip = torch.arange(4.0).view(1, 1, 4, 1, 1)
        >>> crop_resize(clip, torch.tensor([0]), torch.tensor([4]), 2).flatten().tolist()
        [0.5, 2.5]
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    device = skeletons.device
    starts, lengths = (each.to(device, non_blocking=True)[:, None] for each in (starts, lengths))
    middles = torch.arange(num_frames, device=device, dtype=torch.float32) + 0.5
    places = (middles * (lengths / num_frames) - 0.5).clamp(min=0)
    first = places.long()
    second = torch.minimum(first + 1, lengths - 1)
    rows = torch.arange(len(skeletons), device=device)[:, None]
    # Frames are gathered as rows of whole skeletons: the batch and time dimensions come first.
    frames = skeletons.transpose(1, 2)
    before, after = frames[rows, starts + first], frames[rows, starts + second]
    weight = (places - first).to(skeletons.dtype)[:, :, None, None, None]
    return torch.lerp(before, after, weight).transpose(1, 2)
