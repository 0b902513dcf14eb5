"""Batches of a clip stream, with a state that is independent of prefetching."""

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from tubelets.data.stream.clip_stream import ClipStream
from tubelets.data.stream.workers import held_signals, ignore_stop_signals

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]

_VERSION = 1
_PRIVATE_KEYS = ("stream_state", "bad_samples")


def collate_clips(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack tensors of equal shape and integer labels; return other values as lists.

    Args:
        items: Items of a `ClipStream`, all with the same keys.

    Returns:
        Tensors with a batch dimension, such as `pixel_values` uint8 (B, T, C, H, W); `label` int64 (B,) if labels are
        integers; a list of length B for each other key. `waveform` is always a list, since sounds differ in length.

    Example:
        >>> batch = collate_clips([{"pixel_values": torch.zeros(2, 3, 4, 4), "label": 1, "clip_id": "a"}] * 2)
        >>> batch["pixel_values"].shape, batch["label"], batch["clip_id"]
        (torch.Size([2, 2, 3, 4, 4]), tensor([1, 1]), ['a', 'a'])
    """
    batch: dict[str, Any] = {key: [item[key] for item in items] for key in items[0]}
    for key, values in batch.items():
        if key == "label" and all(isinstance(label, int) for label in values):
            batch[key] = torch.tensor(values)
        elif key == "pixel_values" or (key != "waveform" and _have_one_shape(values)):
            # Frames that no transform touched are channels-last, as they were decoded.
            batch[key] = torch.stack(values).contiguous()
    return batch


def _have_one_shape(values: Sequence[Any]) -> bool:
    return all(isinstance(value, torch.Tensor) and value.shape == values[0].shape for value in values)


class ClipLoader:
    """A DataLoader over a `ClipStream` that can be saved and resumed exactly at any batch.

    The state covers *delivered* batches; prefetched ones are recomputed after a resume. Iterating again continues a
    stream with `repeat=True`, and restarts one without, except directly after
    `load_state_dict`.

    Args:
        stream: The clips. Its `batch_size` is used; an incomplete last batch is dropped if it repeats.
        num_workers: Worker processes; 0 decodes in this process.
        collate_fn: Function from a list of items (without `stream_state` and `bad_samples`) to a batch; runs in the
            workers.
        persistent_workers: Keep workers between passes that start from the beginning.
        pin_memory: Copy batches to pinned memory, for faster transfer to a GPU.
        prefetch_factor: Batches that each worker prepares ahead.

    Attributes:
        bad_samples: Unique videos skipped so far, as mappings with `shard`, `clip_id` and `reason`; one for all rows of
            a damaged shard whose ids cannot be read.
        num_skipped: Number of skips, over all epochs and including those before a resume. Rows of damaged shards count
            as far as their number is known.

    Raises:
        ValueError: `num_workers` is negative or does not fit the stream's split.
    """

    def __init__(
        self,
        stream: ClipStream,
        num_workers: int = 0,
        collate_fn: Collate = collate_clips,
        *,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers={num_workers} must be 0 (this process) or more")
        self.stream, self.num_workers = stream, num_workers
        self.bad_samples: list[dict[str, str]] = []
        self.num_skipped = 0
        self._mode = stream.split_mode(num_workers)
        self._collate = _BatchWithState(collate_fn)
        self._options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": pin_memory}
        if num_workers:
            self._options |= {"persistent_workers": persistent_workers, "prefetch_factor": prefetch_factor}
            self._options["worker_init_fn"] = ignore_stop_signals
        self._at_start: DataLoader | None = None
        self._resumed = False
        self._workers: list[dict[str, int] | None] = []
        self._rewind()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.stream.repeat and not self._resumed:
            self._rewind()
        self._resumed = False
        with held_signals():
            batches = iter(self._data_loader())
        for batch, state, skipped in batches:
            self._workers[state["worker"]] = state
            self._next_worker = (state["worker"] + 1) % len(self._workers)
            self._report(skipped)
            if batch is not None:
                self._delivered += 1
                yield batch
        self._rewind()

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last delivered batch of this rank.

        Returns:
            A dictionary of JSON values: `version`, `fingerprint` (settings that must match to resume), `rank`,
            `batches_delivered`, `num_skipped`, `next_worker` and the stream state of each worker.
        """
        return {
            "version": _VERSION,
            "fingerprint": self._fingerprint(),
            "rank": self.stream.rank,
            "batches_delivered": self._delivered,
            "num_skipped": self.num_skipped,
            "next_worker": self._next_worker,
            "workers": copy.deepcopy(self._workers),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume after the batch at which `state` was saved; call before iterating.

        Args:
            state: Result of `state_dict` on the same rank.

        With split "samples" the number of workers may change as long as no video was skipped, since the order of the
        batches does not depend on it.

        Raises:
            ValueError: The state has another version or rank, or other shards, ranks, workers, batch
                size, seed, split, shuffle window or clips per video; the message names the differences.
        """
        if state.get("version") != _VERSION:
            raise ValueError(f"loader state has version {state.get('version')!r}, this code reads {_VERSION}")
        saved = {**state["fingerprint"], "rank": state["rank"]}
        now = {**self._fingerprint(), "rank": self.stream.rank}
        if self._mode == "samples" and not state["num_skipped"]:
            now.pop("num_workers")
        differing = [
            f"{key}: {saved.get(key)!r} saved, {value!r} now" for key, value in now.items() if saved.get(key) != value
        ]
        if differing:
            raise ValueError(
                f"the loader state does not match this run ({'; '.join(differing)}); "
                "use the same settings and shards, or start a new run"
            )
        self._workers = copy.deepcopy(list(state["workers"]))
        self._delivered = state["batches_delivered"]
        self._next_worker = state["next_worker"]
        if len(self._workers) != max(1, self.num_workers):
            self._share_among_workers()
        self.num_skipped = state["num_skipped"]
        self._resumed = True

    def _fingerprint(self) -> dict[str, Any]:
        """Settings that determine the batches."""
        stream = self.stream
        return {
            "num_shards": stream.source.num_shards,
            "shards_hash": stream.shards_hash,
            "world_size": stream.world_size,
            "num_workers": max(1, self.num_workers),
            "batch_size": stream.batch_size,
            "seed": stream.seed,
            "split": self._mode,
            "shuffle_window": stream.shuffle_window,
            "clips_per_video": stream.clips_per_video,
        }

    def _share_among_workers(self) -> None:
        """Let another number of workers continue behind the last batch, in whose order they do not matter."""
        count = max(1, self.num_workers)
        last = self._workers[self._next_worker - 1]
        # The first worker of a run always has the first batch.
        self._next_worker = self._delivered % count
        self._workers = [None if last is None else {**last, "worker": worker} for worker in range(count)]

    def _rewind(self) -> None:
        """Move to the start of the pass."""
        self._workers = [None] * max(1, self.num_workers)
        self._delivered = 0
        self._next_worker = 0

    def _data_loader(self) -> DataLoader:
        """Create a DataLoader that starts at the current position."""
        at_start = not any(self._workers)
        if at_start and self._at_start is not None:
            return self._at_start
        if self.num_workers:
            # A forked worker that collects a decoder of this process would wait forever for the decoder's threads,
            # which fork does not copy.
            gc.collect()
        stream = copy.copy(self.stream)
        # A DataLoader starts with worker 0, so the logical worker whose batch is next gets that index.
        stream.load_state_dict(self._workers, first_worker=self._next_worker)
        loader = DataLoader(
            _WithTail(stream),
            batch_size=stream.batch_size,
            collate_fn=self._collate,
            drop_last=stream.repeat,
            # Otherwise each new iterator would draw from the global generator and change dropout after a resume.
            generator=torch.Generator().manual_seed(0),
            **self._options,
        )
        if at_start and self._options.get("persistent_workers"):
            self._at_start = loader
        return loader

    def _report(self, skipped: list[dict[str, str]]) -> None:
        """Record skipped videos."""
        self.num_skipped += len(skipped)
        for bad in skipped:
            if bad not in self.bad_samples:
                self.bad_samples.append(bad)


class _WithTail(IterableDataset):
    """The stream, including the report of videos skipped after the last clip."""

    def __init__(self, stream: ClipStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._stream.iterate_with_tail()


class _BatchWithState:
    """Collates in the worker and attaches the state after the last item of the batch."""

    def __init__(self, collate_fn: Collate) -> None:
        self._collate_fn = collate_fn

    def __call__(
        self, items: list[dict[str, Any]]
    ) -> tuple[dict[str, Any] | None, dict[str, int], list[dict[str, str]]]:
        clips = [
            {key: value for key, value in item.items() if key not in _PRIVATE_KEYS}
            for item in items
            if "clip_id" in item
        ]
        skipped = [bad for item in items for bad in item["bad_samples"]]
        return self._collate_fn(clips) if clips else None, items[-1]["stream_state"], skipped
