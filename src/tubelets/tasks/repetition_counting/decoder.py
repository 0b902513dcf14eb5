"""Count repetitions in whole videos with the two-stream network (severe_benchmark.md, section 8.4).

The scale of a cycle is searched at the middle of the video, then cycles are followed from coarse to fine around 32
centres. The reference runs the network 74 times a video, state by state; here the states of all scales, of all centres
of a level and of all videos go through it together, at most 13 times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tubelets.objectives.counting import ANCHORS, CyclePrediction
from tubelets.tasks.repetition_counting.states import PADDING_COLOUR, gather_frames, input_frames

Network = Callable[[Tensor], tuple[CyclePrediction, CyclePrediction]]

NUM_SCALES, NUM_CENTRES, NUM_LEVELS, MIN_LENGTH = 30, 32, 4, 4
RUNS = {1: 4, 2: 2, 3: 1, 4: 1}
_SAME = ANCHORS.index(1.0)


@dataclass(frozen=True)
class Counts:
    """Counts of a batch of videos, and what they were made from.

    Attributes:
        counts: int64 `(B,)`.
        half_periods: int64 `(B,)`, frames of a cycle at the middle of the video, less one; 0 where none was found.
        centres: int64 `(B, 32)`, frames at which cycles were measured.
        left: float64 `(B, 32)`, where the cycle before each centre starts.
        right: float64 `(B, 32)`, where the cycle after each centre ends.
    """

    counts: Tensor
    half_periods: Tensor
    centres: Tensor
    left: Tensor
    right: Tensor


@torch.no_grad()
def count_repetitions(
    network: Network,
    videos: Tensor,
    lengths: Tensor,
    *,
    min_cycles: int = 2,
    weight: float = 0.5,
    padding: tuple[float, ...] = PADDING_COLOUR,
    batch_size: int = 64,
) -> Counts:
    """Count the repetitions of videos.

    Args:
        network: from clips `(N, 32, C, H, W)` to the predictions of the past and the coming cycle.
        videos: `(B, T, C, H, W)`, normalised, padded to one length.
        lengths: int64 `(B,)`, frames of each video.
        min_cycles: cycles that a video has at least; 2 for UCFRep.
        weight: of a new estimate against the one it replaces.
        padding: colour of frames outside of a video, by channel.
        batch_size: clips that go through the network at once.

    Returns:
        The counts.

    Raises:
        ValueError: if shapes do not fit, or a length is not in [1, T].

    Example:
        >>> def network(clips):  # finds every length right
        ...     logits = torch.zeros(len(clips), 2, 7).index_fill(2, torch.tensor([3]), 1.0)
        ...     prediction = CyclePrediction(logits * torch.tensor([0.0, 1.0])[:, None], torch.zeros(len(clips), 7))
        ...     return prediction, prediction
        >>> count_repetitions(network, torch.zeros(1, 64, 3, 4, 4), torch.tensor([64])).counts.tolist()
        [13]
    """
    if videos.ndim != 5 or lengths.shape != videos.shape[:1]:
        raise ValueError(
            f"videos must be (B, T, C, H, W) and lengths (B,), got {tuple(videos.shape)} and {tuple(lengths.shape)}"
        )
    if not 1 <= int(lengths.min()) <= int(lengths.max()) <= videos.shape[1]:
        raise ValueError(f"lengths must lie in [1, {videos.shape[1]}], got {lengths.tolist()}")
    run = _Runner(network, videos, lengths, lengths.double() / min_cycles, padding, batch_size)
    period = _find_period(run, weight)
    steps = torch.arange(NUM_CENTRES, dtype=torch.float64, device=lengths.device)
    centres = (lengths[:, None].double() / (NUM_CENTRES + 1) * (steps + 0.5)).trunc()
    # Both copies of both ends: what the neighbour on the left says, and the one on the right.
    ends = torch.stack([centres - period[:, None], centres + period[:, None] + 1], dim=-1)
    from_left, from_right = ends, ends.clone()
    for level in range(1, NUM_LEVELS + 1):
        from_left, from_right = _refine(run, level, centres, from_left, from_right, weight)
    mean = (from_left + from_right) / 2
    counts = _count(centres, mean.round(), lengths, period)
    return Counts(counts, period.long(), centres.long(), mean[..., 0], mean[..., 1])


@dataclass(frozen=True)
class _Runner:
    """The network on states of a batch of videos."""

    network: Network
    videos: Tensor
    lengths: Tensor
    limits: Tensor
    padding: tuple[float, ...]
    batch_size: int

    def predict(self, states: Tensor) -> tuple[CyclePrediction, CyclePrediction]:
        """Predictions for states `(B, N, 3)`, flattened to `B * N`."""
        frames = input_frames(states)
        videos, states_per_video = frames.shape[:2]
        parts = []
        rows = torch.arange(videos, device=frames.device).repeat_interleave(states_per_video)
        pieces = zip(rows.split(self.batch_size), frames.flatten(0, 1).split(self.batch_size), strict=True)
        for picked, chosen in pieces:
            clips = gather_frames(self.videos[picked], chosen[:, None], self.lengths[picked], self.padding)
            parts.append(self.network(clips[:, 0]))
        first, second = (
            CyclePrediction(
                torch.cat([part[stream].logits for part in parts]).double(),
                torch.cat([part[stream].boxes for part in parts]).double().clamp(-0.5, 0.5),
            )
            for stream in (0, 1)
        )
        return first, second

    def move(self, middles: Tensor, ends: Tensor) -> Tensor:
        """New ends `(B, N, 2)` of the cycles around middles `(B, N)`."""
        past, coming = self.predict(torch.stack([ends[..., 0], middles, ends[..., 1]], dim=-1))
        limits = self.limits[:, None]
        before = _rescaled(middles - ends[..., 0] + 1, past).clamp(min=MIN_LENGTH).minimum(limits)
        after = _rescaled(ends[..., 1] - middles, coming).clamp(min=MIN_LENGTH).minimum(limits)
        left, right = (middles - before + 1).trunc(), (middles + after).trunc()
        is_short = (middles - left + 1 < MIN_LENGTH) | (right - middles < MIN_LENGTH)
        return torch.where(is_short[..., None], ends, torch.stack([left, right], dim=-1))


def _rescaled(lengths: Tensor, prediction: CyclePrediction) -> Tensor:
    """Lengths `(B, N)` times the ratio of the best anchor of each."""
    best = prediction.logits.softmax(dim=1)[:, 1].argmax(dim=1, keepdim=True)
    anchors = torch.tensor(ANCHORS, dtype=torch.float64, device=best.device)
    ratios = prediction.boxes.gather(1, best)[:, 0].exp() * anchors[best[:, 0]]
    return lengths * ratios.view_as(lengths)


def _find_period(run: _Runner, weight: float) -> Tensor:
    """Length of a cycle at the middle of every video `(B,)`, of the past stream and the anchor 1 alone."""
    lengths = run.lengths.double()[:, None]
    middles = lengths / 2
    ratios = (0.35 / 0.03) ** (torch.arange(NUM_SCALES, dtype=torch.float64, device=lengths.device) / (NUM_SCALES - 1))
    proposed, scores = _propose(run, middles, lengths * 0.03 * ratios)
    best = torch.where(_is_cycle(proposed, run), scores, -1.0).max(dim=1, keepdim=True)
    period = torch.where(best.values < 0, 0.0, proposed.gather(1, best.indices)).trunc()
    for _ in range(4):
        proposed, _ = _propose(run, middles, period)
        moved = (weight * proposed + (1 - weight) * period).round()
        moved = torch.where(_is_cycle(proposed, run), moved, period)
        if bool((moved == period).all()):
            # The network would see the same clips again.
            break
        period = moved
    return period[:, 0]


def _propose(run: _Runner, middles: Tensor, halves: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths `(B, N)` that the past stream makes of half lengths around the middle, and how sure it is."""
    states = torch.stack([middles - halves, middles.expand_as(halves), middles + halves + 1], dim=-1)
    past, _ = run.predict(states)
    scores = past.logits.softmax(dim=1)[:, 1, _SAME].view_as(halves)
    return halves * past.boxes[:, _SAME].view_as(halves).exp(), scores


def _is_cycle(lengths: Tensor, run: _Runner) -> Tensor:
    return (lengths >= MIN_LENGTH) & (lengths < run.limits[:, None])


def _refine(
    run: _Runner, level: int, centres: Tensor, from_left: Tensor, from_right: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Measure cycles at every other centre of a level, and hand them to the centres around."""
    step = 2 ** (NUM_LEVELS - level)
    nodes = torch.arange(step, NUM_CENTRES, 2 * step, device=centres.device)
    middles = centres[:, nodes]
    old = ((from_left + from_right)[:, nodes] / 2).round()
    for turn in range(RUNS[level]):
        blend = weight * run.move(middles, old) + (1 - weight) * old
        if turn < RUNS[level] - 1:
            old = blend.round()
    offsets = blend - middles[..., None]
    # (B, nodes, 2 * step): the positions on both sides of each node, which tile all centres.
    moved = (centres.unflatten(1, (len(nodes), 2 * step))[..., None] + offsets[:, :, None]).trunc()
    is_before = torch.arange(2 * step, device=centres.device) < step
    both = torch.full((len(nodes), 2 * step), level != 3, device=centres.device)
    both[0] |= is_before
    both[-1] |= ~is_before

    def merged(kept: Tensor, replaced: Tensor) -> Tensor:
        shaped = kept.unflatten(1, (len(nodes), 2 * step))
        return torch.where((both | replaced)[..., None], moved, shaped).flatten(1, 2)

    return merged(from_left, ~is_before), merged(from_right, is_before)


def _count(centres: Tensor, ends: Tensor, lengths: Tensor, period: Tensor) -> Tensor:
    """Mean frequency over the centres whose two cycles lie within the video, times its length."""
    left, right = ends.unbind(-1)
    before, after = centres - left + 1, right - centres
    is_inside = ((left - before).trunc() >= 0) & ((right + after).trunc() < lengths[:, None])
    frequency = torch.where(is_inside, (1 / before + 1 / after) / 2, 0.0).sum(dim=1)
    measured = lengths * frequency / is_inside.sum(dim=1).clamp(min=1)
    return torch.where(is_inside.any(dim=1), measured, lengths / (period + 1)).round().long()
