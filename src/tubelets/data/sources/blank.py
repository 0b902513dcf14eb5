"""A source of black clips, for collators that draw whole frames themselves (smile.md, section 9)."""

import functools
import re
from collections.abc import Iterator

import torch

from tubelets.data.modalities.video import encode_video
from tubelets.data.sources.source import Media, Sample, Source, SourceDescription

_ADDRESS = re.compile(r"blank://([1-9]\d*)")


class BlankSource(Source):
    """Black clips that differ only in their ids, and therefore in their seeds.

    Args:
        num_clips: clips per epoch, at least 1.

    Raises:
        ValueError: if `num_clips` is below 1.

    Example:
        >>> source = BlankSource(3)
        >>> [sample.clip_id for sample in source.iterate_shard(0, skip=1)]
        ['1', '2']
    """

    def __init__(self, num_clips: int) -> None:
        if num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {num_clips}")
        self._num_clips = num_clips

    @property
    def description(self) -> SourceDescription:
        """One shard without annotations."""
        return SourceDescription((f"blank-{self._num_clips}",), {"video": "video"})

    @classmethod
    def parse(cls, address: str) -> "BlankSource":
        """Parse an address such as `blank://80000`.

        Args:
            address: the address.

        Raises:
            ValueError: if it has another form.

        Example:
            >>> BlankSource.parse("blank://80000").num_samples
            80000
        """
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"{address!r} is not blank://N with N clips per epoch, such as blank://80000")
        return cls(int(found[1]))

    @property
    def lists_paths(self) -> bool:
        """True: media are read on demand."""
        return True

    @property
    def num_samples(self) -> int:
        """Clips per epoch."""
        return self._num_clips

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the clips.

        Args:
            index: 0, the only shard.
            skip: clips to skip at the start.

        Yields:
            The clips from `skip`.

        Raises:
            IndexError: if the shard does not exist.
        """
        self._check_shard(index)
        for number in range(skip, self._num_clips):
            yield Sample(self.shard_names[0], str(number), {"video": Media("video")})

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Return one small black frame, which clips repeat and transforms enlarge.

        Args:
            sample: a sample from `iterate_shard`.
            medium: "video", the only one.
        """
        return _black_frame()


@functools.cache
def _black_frame() -> bytes:
    return encode_video(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
