"""Loaders of a task's data: the training stream, and one pass over a part with all views of a clip in one batch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from transformers import TrainingArguments

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.modalities.specs import InputSpec
from tubelets.data.sources.balanced import BalancedSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream, Transform
from tubelets.data.stream.loader import ClipLoader


class ClipLoading:
    """Mixin of a task's data that builds its loaders.

    Attributes:
        data: the task's own arguments, with `split_by`, `on_bad_sample`, `backend`, `shuffle_window` and
            `samples_per_epoch`.
        args: batch sizes, workers, seed and rank.
        train_source: training clips, None if the run only tests.
        repeats: times a clip is in its batch.
        specs: what streams decode; None is the frames and sounds that loaders ask for.
    """

    data: Any
    args: TrainingArguments
    train_source: Source | None
    repeats: int = 1
    specs: Mapping[str, InputSpec] | None = None

    @property
    def samples_per_epoch(self) -> int:
        """Training clips per epoch, over all processes.

        Raises:
            ValueError: if neither the arguments nor the data state their number.
        """
        source = self.train_source
        samples = self.data.samples_per_epoch or (None if source is None else source.num_samples)
        if samples is None:
            raise ValueError(f"{self.data.dataset_name} does not state its number of clips; set samples_per_epoch")
        return samples

    def _stream(self, source: Source, clips: ClipSpec | None, transform: Transform | None) -> partial[ClipStream]:
        """A stream of this process's share of a source, except for order and batch size."""
        # Every worker can iterate over a whole list of paths, and over balanced draws.
        alone = isinstance(source, (FolderSource, BalancedSource))
        return partial(
            ClipStream,
            source,
            clips,
            transform,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            split="samples" if alone else self.data.split_by,
            on_bad_sample=self.data.on_bad_sample,
            backend=self.data.backend,
            specs=self.specs,
        )

    def _train_loader(
        self,
        clips: ClipSpec | None,
        transform: Transform | None,
        collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
        audio: AudioSpec | None = None,
    ) -> ClipLoader:
        source, args = self.train_source, self.args
        if source is None:
            raise ValueError("no training videos; give --do_train")
        window = self.data.shuffle_window
        if isinstance(source, FolderSource):
            window = source.num_samples or 1
        if isinstance(source, BalancedSource):
            window = 0  # the draws are in random order already
        stream = self._stream(source, clips, transform)(
            audio=audio,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle_window=window,
            batch_size=args.per_device_train_batch_size * self.repeats,
            repeat=True,
        )
        return ClipLoader(
            stream,
            args.dataloader_num_workers,
            collate,
            pin_memory=args.device.type == "cuda",
            prefetch_factor=args.dataloader_prefetch_factor or 2,
        )

    def _test_loader(
        self,
        source: Source,
        clips: ClipSpec | None,
        transform: Transform | None,
        collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
        views: int,
        audio: AudioSpec | None = None,
    ) -> ClipLoader:
        """All views of a clip in one batch, as many clips as fit into a forward pass."""
        per_clip = 1 if clips is None else clips.clips_per_video
        batch_size = max(1, self.args.per_device_eval_batch_size // views) * per_clip
        stream = self._stream(source, clips, transform)(audio=audio, shuffle_window=0, batch_size=batch_size)
        return ClipLoader(stream, self.args.dataloader_num_workers, collate, pin_memory=self.args.device.type == "cuda")
