"""Videos or sounds in a folder or a list as the source of a clip stream, without building shards first."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tubelets.data.sources.annotations import VideoRecord, find_class_names, split_labels
from tubelets.data.sources.shards import RawSample, VideoSource


class FolderSource(VideoSource):
    """Video files, read one by one when their turn comes.

    It is one shard, so that its videos are divided among workers sample by sample and shuffled as finely as the
    stream's window allows: nothing but paths is held in memory.

    Args:
        records: the videos, see `tubelets.data.sources.annotations.read_records`; all with a label.
        class_names: names in the order that numbers them; None takes the labels that occur, sorted.
        multi_label: a record's label holds several names, with `;` between them; not needed for records whose label is
            a tuple of names.

    Raises:
        ValueError: if there is no video, a video has no label, or a label is not among the names.

    Example:
        >>> records = [VideoRecord(Path(f"{i}.mp4"), name, None, str(i)) for i, name in enumerate(["run", "jump"])]
        >>> source = FolderSource(records)
        >>> source.class_names, [sample.label for sample in source.iterate_shard(0)]
        (['jump', 'run'], [1, 0])
    """

    def __init__(
        self, records: Sequence[VideoRecord], class_names: Sequence[str] | None = None, multi_label: bool = False
    ) -> None:
        if not records:
            raise ValueError("there is no video; give a folder of class folders or a list with `path label` lines")
        self._records = list(records)
        self.multi_label = multi_label or any(isinstance(record.label, tuple) for record in self._records)
        self._labels = [_split(record, self.multi_label) for record in self._records]
        self.class_names = list(class_names) if class_names is not None else self._found_names()
        self._numbers = {name: number for number, name in enumerate(self.class_names)}
        for record, names in zip(self._records, self._labels, strict=True):
            unknown = [name for name in names if name not in self._numbers]
            if unknown:
                raise ValueError(
                    f"label {unknown[0]!r} of clip {record.clip_id!r} is not among the {len(self.class_names)} class "
                    "names; add it to them or correct the label"
                )
        listed = "\n".join(f"{record.clip_id} {record.label}" for record in self._records)
        self.num_shards = 1
        # The name identifies the list, so that a run is not resumed with other videos.
        self.shard_names = [f"videos-{hashlib.sha256(listed.encode()).hexdigest()[:16]}"]
        self.annotations = ["label"]

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Number of videos."""
        return len(self._records)

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[RawSample]:
        """List the videos.

        Args:
            index: 0, the only shard.
            skip: videos at the beginning that are left out.

        Yields:
            The videos from `skip` on, with their paths; nothing is read.

        Raises:
            IndexError: if there is no such shard.
        """
        if index != 0:
            raise IndexError(f"shard {index} does not exist; a list of videos is one shard")
        for record, names in zip(self._records[skip:], self._labels[skip:], strict=True):
            numbers = [self._numbers[name] for name in names]
            yield RawSample(
                shard=self.shard_names[0],
                clip_id=record.clip_id,
                data=None,
                path=str(record.path),
                label=numbers if self.multi_label else numbers[0],
            )

    def read_bytes(self, sample: RawSample) -> bytes:
        """Read the file of a video.

        Args:
            sample: what `iterate_shard` gave.

        Raises:
            OSError: if it cannot be read.
        """
        return Path(str(sample.path)).read_bytes()

    def _found_names(self) -> list[str]:
        """The names that occur, in the order of the shard builder."""
        flat = [
            VideoRecord(record.path, names, None, record.clip_id)
            for record, names in zip(self._records, self._labels, strict=True)
        ]
        return find_class_names(flat) or []


def _split(record: VideoRecord, multi_label: bool) -> tuple[str, ...]:
    """Class names of a record."""
    if record.label is None:
        raise ValueError(
            f"clip {record.clip_id!r} has no label; put videos into class folders, or list them with their labels"
        )
    return split_labels(record.label) if multi_label and isinstance(record.label, str) else record.label_names
