"""What a modality is: how one kind of medium is stored, checked, and decoded for a clip.

The built-in modalities lie beside this file. Another one is a subclass of `Modality` and one call of
`tubelets.data.modalities.registry.register_modality`; no existing file is edited.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from tubelets.data.modalities.specs import InputSpec


class BadMediumError(ValueError):
    """A medium of a sample that cannot be read; a stream skips and reports the sample.

    Example:
        >>> issubclass(BadMediumError, ValueError)
        True
    """


@dataclass(frozen=True)
class Clip:
    """The part of a sample that one clip shows; all temporal media of the sample are cut by it.

    Attributes:
        generator: Random draws of the clip.
        frames: Frames of the medium that leads, never decreasing; None where no medium has frames.
        num_frames: Frames of the leading medium.
        fps: Frames a second of the leading medium, 0 if unknown.
        position: Where media are cut if none has frames: "random" draws the place, "centre" is the middle.

    Example:
        >>> clip = Clip(torch.Generator(), (8, 12, 16, 20), num_frames=100, fps=25.0)
        >>> clip.frames_of(4, num_frames=99, fps=25.0), clip.frames_of(4, num_frames=50), clip.middle_of(4.0)
        ([8, 12, 16, 20], [4, 6, 8, 10], 0.58)
    """

    generator: torch.Generator
    frames: tuple[int, ...] | None = None
    num_frames: int = 0
    fps: float = 0.0
    position: Literal["random", "centre"] = "random"

    def middle_of(self, duration: float) -> float | None:
        """The middle of the clip in another medium.

        Args:
            duration: Seconds of the other medium.

        Returns:
            Seconds from its beginning; None where no medium has frames.
        """
        if self.frames is None:
            return None
        middle = (self.frames[0] + self.frames[-1] + 1) / 2
        return middle / self.fps if self.fps else middle / self.num_frames * duration

    def frames_of(self, count: int, num_frames: int, fps: float = 0.0) -> list[int]:
        """The frames of another medium that show the same stretch of time.

        With the rates of both media, frames are matched by their times; otherwise both media are taken to begin and to
        end together. Two media of the same rate and the same number of frames give the same frames.

        Args:
            count: Frames to choose; more or fewer than those of the clip are spread evenly over its stretch.
            num_frames: Frames of the other medium, at least 1.
            fps: Its frames a second, 0 if unknown.

        Returns:
            `count` frame numbers in [0, num_frames), never decreasing.
        """
        if self.frames is None:
            # Without a leading medium a clip is the whole sample.
            return [(2 * index + 1) * num_frames // (2 * count) for index in range(count)]
        ratio = fps / self.fps if fps and self.fps else num_frames / self.num_frames
        places = (np.arange(count) + 0.5) * len(self.frames) / count - 0.5
        wanted = np.interp(places, np.arange(len(self.frames)), self.frames)
        return np.clip(np.floor((wanted + 0.5) * ratio), 0, num_frames - 1).astype(int).tolist()


class Medium(ABC):
    """One opened medium of a sample, for example a decoder of a video; a context manager.

    Attributes:
        num_frames: Frames that clips can be drawn from, None for media without frames.
        fps: Frames a second, 0 if unknown.
    """

    num_frames: int | None = None
    fps: float = 0.0

    @abstractmethod
    def read(self, spec: Any, clips: Sequence[Clip]) -> list[Any]:
        """Decode clips.

        Args:
            spec: What the model takes.
            clips: Which parts; of the leading medium exactly `clip.frames`.

        Returns:
            One value for each clip, usually a tensor.

        Raises:
            BadMediumError: The medium cannot be decoded, or is not what the spec asks for.
        """

    def close(self) -> None:  # noqa: B027 (most media hold nothing)
        """Release the decoder."""

    def __enter__(self) -> "Medium":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Modality(ABC):
    """How one kind of medium is stored and decoded. An instance without state, which worker processes receive pickled.

    Attributes:
        name: `InputSpec.modality` of its specs.
        media: Usual names of its media, which are column names in Parquet shards and csv files, and in a tar the part
            before the suffix (`0001.flow.mp4`).
        suffixes: Suffixes of its files, without the dot.
        feature: Type of its columns in shards that this package builds; "binary" holds the bytes of a file.
        in_annotations: The values are annotations of a sample, such as its caption, and nothing is decoded.
        leads: Clips are drawn from its frames: `ClipSpec` chooses them, and the other media follow. Its specs have
            `num_frames`, and its media too.
        is_spatial: Values have a place in the picture, so that they take part in crops and flips, see `move`.

    Example:
        >>> from tubelets.data.modalities.registry import modality_named
        >>> modality_named("video").media
        ('video', 'flow', 'depth')
    """

    name: ClassVar[str]
    media: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    feature: ClassVar[Literal["Video", "Audio", "binary"]] = "binary"
    in_annotations: ClassVar[bool] = False
    leads: ClassVar[bool] = False
    is_spatial: ClassVar[bool] = False

    def sources(self, spec: Any) -> tuple[str, ...]:
        """Media (or annotations) that a spec can be read from, the preferred one first; by default `spec.media`."""
        return (spec.media,)

    def requested(self, argument: str, spec: InputSpec) -> tuple[str, InputSpec]:
        """Name and spec of what a stream decodes for an argument; another one where a processor completes it."""
        return argument, spec

    @abstractmethod
    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Open the bytes of a file.

        Args:
            data: The bytes.
            name: Name in error messages.
            backend: Decoder of frames, see `open_video`.

        Raises:
            BadMediumError: The bytes cannot be read.
        """

    def check(self, data: bytes, name: str) -> None:
        """Refuse a damaged file while shards are built; by default one that cannot be opened.

        Args:
            data: The bytes of the file.
            name: Name in error messages.

        Raises:
            BadMediumError: The file is damaged.
        """
        with self.open(data, name):
            pass

    def move(self, value: Any, spec: Any, geometry: Callable[[Any], Any], mirrored: bool) -> Any:
        """Apply the geometric draw that all spatial media of a sample share.

        Args:
            value: What `Medium.read` returned for a clip.
            spec: Its spec.
            geometry: Crops, resizes and flips a tensor `(T, C, H, W)`.
            mirrored: Whether `geometry` exchanges left and right.

        Returns:
            The moved value; by default it is unchanged, which is right for values without a place in the picture.
        """
        return value
