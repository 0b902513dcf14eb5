"""Stream decoded clips of a source in a reproducible order, endlessly or once, with exact resume."""

import functools
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from tubelets.data.modalities.audio import AudioSpec, Position
from tubelets.data.modalities.clips import ClipDecoder, ClipSpec, Sampling, check_choice, check_least
from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.specs import InputSpec
from tubelets.data.modalities.video import Backend, BadVideoError
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Sample, Source
from tubelets.data.stream.order import Consumer, SampleOrder, SplitMode, StreamState
from tubelets.data.transforms.shared import Transform, transform_media

__all__ = ["ClipSpec", "ClipStream", "Sampling", "SkippedSamples", "Transform"]

# A consumer may find only empty shards for a while (all videos unreadable), but not forever.
_MAX_EMPTY_EPOCHS = 100


class SkippedSamples(list[dict[str, str]]):
    """Reports of skipped videos in an item; in a batch of `DataLoader`'s default collation, those of all items.

    Example:
        >>> from torch.utils.data import default_collate
        >>> bad = {"shard": "clips.tar", "clip_id": "7", "reason": "the file is empty"}
        >>> items = [{"bad_samples": SkippedSamples()}, {"bad_samples": SkippedSamples([bad])}]
        >>> default_collate(items)["bad_samples"] == [bad]
        True
    """


def _join_reports(reports: Sequence[SkippedSamples], **_: Any) -> SkippedSamples:
    return SkippedSamples(each for report in reports for each in report)


# Lists of different lengths cannot be collated, so a single skipped video would end a plain DataLoader.
default_collate_fn_map[SkippedSamples] = _join_reports


class ClipStream(IterableDataset):
    """Decoded clips of a source, each sample exactly once per epoch for any number of ranks and workers.

    `specs` determine what is decoded. All temporal media of a sample are cut to the same time span, which `clips`
    chooses from the frames of the leading medium; see `ClipDecoder`. "Video" here means any sample, including those
    without frames.

    **Order.** Epoch e visits the shards in an order drawn from (seed, e) and shuffles windows of `shuffle_window`
    encoded videos. Clip starts and augmentations are drawn from (seed, epoch, clip id, clip index), so the pixels of a
    clip do not depend on which process decodes it.

    **Split.** "shards": each of the W = world_size x workers consumers reads its own shards. "samples": each consumer
    reads all shards and decodes its own samples, chosen so that the sequence of global batches is the same for any
    number of ranks and workers (until a video is skipped, which its consumer replaces with its next one).
    "auto": "shards" if there are at least W shards.

    **Resume.** Each item carries the state of its consumer; `load_state_dict` continues after that item.

    Args:
        source: Shards of encoded media, from `open_source`.
        clips: Frames per clip and clips per video; None for audio alone.
        transform: Function from a uint8 clip (T, C, H, W) and a generator to the transformed clip, or None. Several
            spatial media (frames, flow, depth) share its geometric draw, see `transform_media`.
        audio: Audio excerpt of a clip as `waveform`, instead of `specs`; None for frames alone. Videos without audio
            are then unreadable.
        specs: The model's input specs by argument, such as `config.pretraining_specs`. None decodes `pixel_values` at
            the size of the file if `clips` is given, and `waveform` if `audio` is given.
        position: Where audio without frames is cut, with `specs`: "random" or "centre".
        seed: Seed of order, clip starts and augmentations.
        shuffle_window: Videos shuffled together; 0 or 1 keeps the stored order of shards and rows.
        rank: Rank of this process.
        world_size: Number of processes.
        split: "auto", "shards" or "samples".
        batch_size: Clips per batch of this process; with "samples" a multiple of the clips per video.
        repeat: Iterate over epochs endlessly (training); False gives one pass.
        epoch: First epoch.
        on_bad_sample: "skip" unreadable videos, and rows of shards that are damaged or missing, and report them in the
            next item; or "raise".
        max_consecutive_bad: Number of consecutive unreadable videos that raises an error even with "skip". Rows lost
            in damaged shards do not count.
        backend: Video decoder, see `open_video`.
        verify_checksum: Verify the stored checksum of each medium, if it has one.
        times: Also yield `clip_seconds`: start and end of the clip in the file, NaN if its frames have no times.

    Yields:
        Dictionaries with the requested values by argument, such as `pixel_values` uint8 (T, C, H, W) and
        `waveform` float32 (samples,); `label` (a list for multi-label videos), `caption` and other annotations;
        `clip_id`; `clip_index`; `seed` (an integer for masks); `epoch`; `bad_samples` (`SkippedSamples`: mappings with
        `shard`, `clip_id`, `reason` of the videos this consumer skipped since its last item; `clip_id` is "*" for rows
        of a damaged shard whose ids cannot be read); `stream_state` (integers, the state after this item).

    Raises:
        ValueError: An argument is out of range, the source lacks a requested medium, or "shards" has fewer
            shards than consumers.
        BadVideoError: With "raise": a video or shard cannot be read; the message names shard and clip.
        RuntimeError: `max_consecutive_bad` videos in a row, or all of an epoch, were unreadable.

    Example:
        >>> from tubelets.data.sources.blank import BlankSource
        >>> stream = ClipStream(BlankSource(3), ClipSpec(num_frames=2), shuffle_window=0)
        >>> [(item["clip_id"], tuple(item["pixel_values"].shape)) for item in stream]
        [('0', (2, 3, 16, 16)), ('1', (2, 3, 16, 16)), ('2', (2, 3, 16, 16))]
    """

    def __init__(
        self,
        source: Source,
        clips: ClipSpec | None,
        transform: Transform | None = None,
        *,
        audio: AudioSpec | None = None,
        specs: Mapping[str, InputSpec] | None = None,
        position: Position = "random",
        seed: int = 0,
        shuffle_window: int = 256,
        rank: int = 0,
        world_size: int = 1,
        split: Literal["auto", "shards", "samples"] = "auto",
        batch_size: int = 1,
        repeat: bool = False,
        epoch: int = 0,
        on_bad_sample: Literal["skip", "raise"] = "skip",
        max_consecutive_bad: int = 100,
        backend: Backend = "auto",
        verify_checksum: bool = True,
        times: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} must be between 0 and world_size - 1 (world_size={world_size})")
        check_choice("split", split, ("auto", "shards", "samples"))
        check_choice("on_bad_sample", on_bad_sample, ("skip", "raise"))
        check_least(1, batch_size=batch_size, max_consecutive_bad=max_consecutive_bad)
        check_least(0, shuffle_window=shuffle_window, epoch=epoch)
        self.transform = transform
        self.decoder = ClipDecoder(clips, audio, backend, specs, position, times)
        self.media = self.decoder.media_of(source.media, source.annotations)
        self.source = source.with_media(self.media)
        self.seed, self.shuffle_window = seed, shuffle_window
        self.rank, self.world_size, self.split, self.batch_size = rank, world_size, split, batch_size
        self.repeat, self.epoch = repeat, epoch
        self.on_bad_sample, self.max_consecutive_bad = on_bad_sample, max_consecutive_bad
        self.verify_checksum = verify_checksum
        self._states: list[Mapping[str, int] | None] = []
        self._first_worker = 0
        self._told = False

    @property
    def clips_per_video(self) -> int:
        """Clips per video."""
        return self.decoder.clips_per_video

    def split_mode(self, num_workers: int) -> SplitMode:
        """Resolve how samples are divided.

        Args:
            num_workers: DataLoader workers of each rank; 0 counts as one.

        Returns:
            "shards" or "samples".

        Raises:
            ValueError: "shards" was requested with too few shards, or the batch size does not fit "samples".
        """
        consumers = self.world_size * max(1, num_workers)
        if self.split == "shards" and self.source.num_shards < consumers:
            raise ValueError(
                f"split='shards' needs a shard for each of {consumers} consumers ({self.world_size} ranks x "
                f"{max(1, num_workers)} workers) but there are {self.source.num_shards}; build more and smaller "
                "shards, use fewer workers, or split='samples'"
            )
        if self.split != "samples" and self.source.num_shards >= consumers:
            return "shards"
        if self.batch_size % self.clips_per_video:
            raise ValueError(
                f"batch_size={self.batch_size} must be a multiple of clips_per_video={self.clips_per_video} when "
                "samples are split (split='samples', or fewer shards than consumers)"
            )
        if self.split == "auto" and not self.source.lists_paths and self._is_first_to_say():
            warnings.warn(
                f"{self.source.num_shards} shards are too few for {consumers} consumers (ranks x workers): each of "
                "them reads the bytes of all shards; build more shards to avoid it (`tubelets shards --readers "
                f"{consumers})",
                stacklevel=1,
            )
        return "samples"

    def _is_first_to_say(self) -> bool:
        """Whether this is the first of all processes and workers to warn about the division of samples."""
        info = get_worker_info()
        first = self.rank == 0 and (info is None or info.id == 0) and not self._told
        self._told = True
        return first

    def load_state_dict(
        self, states: Mapping[str, int] | Sequence[Mapping[str, int] | None] | None, *, first_worker: int = 0
    ) -> None:
        """Set the position from which to iterate.

        Args:
            states: `stream_state` of the last item of each logical worker, None for workers without one. A
                single state without workers; None to start from the beginning.
            first_worker: Logical worker of the DataLoader's worker 0: the one whose batch is next.
        """
        self._states = [states] if isinstance(states, Mapping) else list(states or [])
        self._first_worker = first_worker

    @functools.cached_property
    def shards_hash(self) -> str:
        """Hash of the list of shards."""
        return hashlib.sha256("\n".join(self.source.shard_names).encode()).hexdigest()[:16]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for item in self.iterate_with_tail():
            if "clip_id" in item:
                yield item
            else:
                _warn_unreported(item["bad_samples"])

    def iterate_with_tail(self) -> Iterator[dict[str, Any]]:
        """Iterate, with an extra item without a clip for videos skipped after the last clip of a single pass.

        Yields:
            The items, then possibly one with `bad_samples` and `stream_state` only.
        """
        info = get_worker_info()
        num_workers = 1 if info is None else info.num_workers
        worker = 0 if info is None else (info.id + self._first_worker) % num_workers
        consumer = Consumer(self.rank, self.world_size, worker, num_workers)
        videos_per_batch = max(1, self.batch_size // self.clips_per_video)
        mode = self.split_mode(num_workers)
        order = SampleOrder(self.source, consumer, mode, self.seed, self.shuffle_window, videos_per_batch)
        saved = self._states[worker] if self._states else None
        state = StreamState(worker=worker, epoch=self.epoch) if saved is None else StreamState(**saved)
        return self._consume(order, state)

    def _consume(self, order: SampleOrder, state: StreamState) -> Iterator[dict[str, Any]]:
        """Decode samples in order, epoch after epoch."""
        skipped = SkippedSamples()
        empty_epochs = 0
        while True:
            for place, sample in order.walk(state):
                try:
                    decoded = self._decode(sample, state)
                except (BadMediumError, OSError) as error:
                    skipped.append(self._skip(sample, error, state))
                    state.consumed, state.clip = place + 1, 0
                    continue
                # A video resumed at its second clip was counted before.
                state.good, state.bad_run = state.good + (state.clip == 0), 0
                for item in self._items(decoded, sample, place, state):
                    yield {**item, "bad_samples": skipped, "stream_state": asdict(state)}
                    skipped = SkippedSamples()
            empty_epochs = 0 if state.good else empty_epochs + 1
            self._check_epoch(state, skipped, empty_epochs, order.consumer)
            if not self.repeat:
                break
            state.next_epoch()
        if skipped:
            yield {"bad_samples": skipped, "stream_state": asdict(state)}

    def _decode(self, sample: Sample, state: StreamState) -> list[tuple[int, int, torch.Generator, dict[str, Any]]]:
        """Decode the clips of a sample not yet yielded, as (clip index, seed, generator, values)."""
        data = {medium: self._read(sample, medium) for medium in self.media}
        seeds = {
            index: stable_seed(self.seed, state.epoch, sample.clip_id, index)
            for index in range(state.clip, self.clips_per_video)
        }
        generators = {index: torch.Generator().manual_seed(seed) for index, seed in seeds.items()}
        first = stable_seed(self.seed, state.epoch, sample.clip_id, 0)
        clips = self.decoder(data, sample.clip_id, generators, first)
        return list(zip(seeds, seeds.values(), generators.values(), clips, strict=True))

    def _read(self, sample: Sample, medium: str) -> bytes:
        """Read the bytes of a medium and verify their checksum."""
        data = self.source.read_bytes(sample, medium)
        stored = sample.get(medium).sha256
        if self.verify_checksum and stored is not None:
            found = hashlib.sha256(data).hexdigest()
            if found != stored:
                raise BadMediumError(f"{medium}: sha256 of the bytes is {found[:12]}..., expected {stored[:12]}...")
        return data

    def _items(
        self,
        decoded: list[tuple[int, int, torch.Generator, dict[str, Any]]],
        sample: Sample,
        place: int,
        state: StreamState,
    ) -> Iterator[dict[str, Any]]:
        """Augment clips and advance the state past each of them."""
        annotations = {name: sample.annotations.get(name) for name in self.source.annotations}
        for index, seed, generator, values in decoded:
            last = index + 1 == self.clips_per_video
            state.consumed, state.clip = (place + 1, 0) if last else (place, index + 1)
            if self.transform is not None:
                values = transform_media(self.transform, values, self.decoder.decoded, generator)
            place_in_epoch = {"clip_id": sample.clip_id, "clip_index": index, "seed": seed, "epoch": state.epoch}
            yield {**values, **place_in_epoch, **annotations}

    def _skip(self, sample: Sample, error: Exception, state: StreamState) -> dict[str, str]:
        """Count an unreadable video, or raise."""
        message = f"shard {sample.shard}, clip {sample.clip_id}: {error}"
        if self.on_bad_sample == "raise":
            raise BadVideoError(message) from error
        lost = sample.problem is not None
        # A damaged shard can hold any number of rows, and says nothing about the decoder.
        state.bad, state.lost, state.bad_run = state.bad + 1, state.lost + lost, state.bad_run + (not lost)
        if state.bad_run >= self.max_consecutive_bad:
            raise RuntimeError(
                f"{state.bad_run} bad videos in a row (max_consecutive_bad={self.max_consecutive_bad}); "
                f"the last: {message}"
            ) from error
        return {"shard": sample.shard, "clip_id": sample.clip_id, "reason": str(error)}

    def _check_epoch(
        self, state: StreamState, skipped: list[dict[str, str]], empty_epochs: int, consumer: Consumer
    ) -> None:
        """Raise if there were no clips: a broken decoder must not look like an empty data set."""
        reason = skipped[-1]["reason"] if skipped else "it was reported before the run was continued"
        # Of several consumers, one may have only damaged shards for an epoch, while the others go on.
        if state.bad and not state.good and not (state.lost and consumer.total > 1):
            raise RuntimeError(f"all {state.bad} videos of epoch {state.epoch} were bad; the last reason: {reason}")
        if self.repeat and empty_epochs >= _MAX_EMPTY_EPOCHS:
            raise RuntimeError(
                f"{empty_epochs} consecutive epochs had no videos; check the shards of the source"
                + (f" (the last one skipped: {reason})" if skipped else "")
            )


def _warn_unreported(skipped: Sequence[Mapping[str, str]]) -> None:
    """Warn about samples skipped after the last item."""
    last = skipped[-1]
    warnings.warn(
        f"{len(skipped)} bad videos were skipped at the end of the pass, the last: shard {last['shard']}, "
        f"clip {last['clip_id']}: {last['reason']}",
        stacklevel=2,
    )
