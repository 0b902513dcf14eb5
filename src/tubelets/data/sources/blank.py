"""A source without any video, for clips that a collator paints itself (smile.md, section 9)."""

import functools
import re
from collections.abc import Iterator

import torch

from tubelets.data.modalities.video import encode_video
from tubelets.data.sources.shards import RawSample, VideoSource

_ADDRESS = re.compile(r"blank://([1-9]\d*)")


class BlankSource(VideoSource):
    """So many black clips, which differ in nothing but their ids and so in their seeds.

    Args:
        num_clips: clips in an epoch, at least 1.

    Raises:
        ValueError: if there are none.

    Example:
        >>> source = BlankSource(3)
        >>> [sample.clip_id for sample in source.iterate_shard(0, skip=1)]
        ['1', '2']
    """

    def __init__(self, num_clips: int) -> None:
        if num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {num_clips}")
        self._num_clips = num_clips
        self.num_shards = 1
        self.shard_names = [f"blank-{num_clips}"]
        self.class_names = None
        self.annotations = []

    @classmethod
    def parse(cls, address: str) -> "BlankSource":
        """Read an address such as `blank://80000`.

        Args:
            address: the address.

        Returns:
            The source.

        Raises:
            ValueError: if it has another form.

        Example:
            >>> BlankSource.parse("blank://80000").num_samples
            80000
        """
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"{address!r} is not blank://N with N clips in an epoch, such as blank://80000")
        return cls(int(found[1]))

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Clips in an epoch."""
        return self._num_clips

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[RawSample]:
        """Name the clips.

        Args:
            index: 0, the only shard.
            skip: clips at the beginning that are left out.

        Yields:
            The clips from `skip` on.

        Raises:
            IndexError: if there is no such shard.
        """
        if index != 0:
            raise IndexError(f"shard {index} does not exist; blank clips are one shard")
        for number in range(skip, self._num_clips):
            yield RawSample(self.shard_names[0], str(number), None, None)

    def read_bytes(self, sample: RawSample) -> bytes:
        """One small black frame, which a clip repeats and a transform enlarges.

        Args:
            sample: what `iterate_shard` gave.
        """
        return _black_frame()


@functools.cache
def _black_frame() -> bytes:
    return encode_video(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
