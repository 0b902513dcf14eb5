"""The modality interface: how one kind of medium is stored, verified, and decoded for a clip.

To add a modality, subclass `Modality` and call `tubelets.data.modalities.registry.register_modality`. No
existing file needs to change.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from tubelets.data.modalities.specs import InputSpec


class BadMediumError(ValueError):
    """A medium of a sample cannot be read; streams skip and report the sample.

    Example:
        >>> issubclass(BadMediumError, ValueError)
        True
    """


@dataclass(frozen=True)
class Clip:
    """The part of a sample that a clip shows; it determines the excerpt of every temporal medium.

    Attributes:
        generator: Random generator of the clip.
        frames: Frames of the leading medium, never decreasing; None if no medium has frames.
        num_frames: Frames of the leading medium.
        fps: Frames per second of the leading medium over the clip, 0 if unknown.
        position: Where media without frames are cut: "random" or "centre".
        edges: Times at which the frames of the leading medium appear and disappear, see `Medium`; None if unknown.

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
    edges: np.ndarray | None = None

    @property
    def span(self) -> tuple[float, float]:
        """Start and end of the clip in seconds of the file; NaN if the times of its frames are unknown.

        Example:
            >>> Clip(torch.Generator(), (10, 15, 20), num_frames=100, fps=10.0).span
            (1.0, 2.1)
        """
        if self.frames is None or (self.edges is None and not self.fps):
            return math.nan, math.nan
        first, last = self.frames[0], self.frames[-1] + 1
        if self.edges is not None:
            return float(self.edges[first]), float(self.edges[last])
        return first / self.fps, last / self.fps

    def middle_of(self, duration: float) -> float | None:
        """The middle of the clip in another medium.

        Args:
            duration: Seconds of the other medium.

        Returns:
            Seconds from the start of the file of the leading medium, or, if the times of its frames are unknown, from
            the start of the other medium; None if no medium has frames.
        """
        if self.frames is None:
            return None
        if self.edges is not None:
            return float(self.edges[self.frames[0]] + self.edges[self.frames[-1] + 1]) / 2
        middle = (self.frames[0] + self.frames[-1] + 1) / 2
        return middle / self.fps if self.fps else middle / self.num_frames * duration

    def frames_of(self, count: int, num_frames: int, fps: float = 0.0, edges: np.ndarray | None = None) -> list[int]:
        """The frames of another medium that show the same time span.

        Both media start with their first frame. Frames are matched by their times if these are known, or follow from a
        frame rate; otherwise both media are assumed to end together, too. Two media with equal times and numbers of
        frames give the same frames.

        Args:
            count: Frames to choose; if different from the clip's, they are spread evenly over its frames.
            num_frames: Frames of the other medium, at least 1.
            fps: Its frames per second, 0 if unknown.
            edges: The times of its frames, see `Medium`; None if unknown.

        Returns:
            `count` frame indices in [0, num_frames), never decreasing.
        """
        if self.frames is None:
            # Without a leading medium, the clip is the whole sample.
            return [(2 * index + 1) * num_frames // (2 * count) for index in range(count)]
        places = (np.arange(count) + 0.5) * len(self.frames) / count - 0.5
        wanted = np.interp(places, np.arange(len(self.frames)), self.frames) + 0.5
        if self.edges is not None and (edges is not None or fps):
            times = np.interp(wanted, np.arange(self.num_frames + 1), self.edges - self.edges[0])
            found = times * fps if edges is None else np.searchsorted(edges - edges[0], times, "right") - 1
        else:
            found = wanted * (fps / self.fps if fps and self.fps else num_frames / self.num_frames)
        return np.clip(np.floor(found), 0, num_frames - 1).astype(int).tolist()


class Medium(ABC):
    """An open medium of a sample, for example a video decoder; a context manager.

    Attributes:
        num_frames: Number of frames, None for media without frames.
        fps: Frames per second, 0 if unknown.
        edges: float64 `(num_frames + 1,)`, rising: frame i is shown from `edges[i]` to `edges[i + 1]`, in seconds from
            the start of the file, whatever stream of it starts first; None if unknown.
    """

    num_frames: int | None = None
    fps: float = 0.0
    edges: np.ndarray | None = None

    @abstractmethod
    def read(self, spec: Any, clips: Sequence[Clip]) -> list[Any]:
        """Decode clips.

        Args:
            spec: The model's input spec.
            clips: The parts to decode; exactly `clip.frames` for the leading medium.

        Returns:
            One value per clip, usually a tensor.

        Raises:
            BadMediumError: The medium cannot be decoded, or does not fit the spec.
        """

    def close(self) -> None:  # noqa: B027 (most media hold nothing)
        """Release the decoder."""

    def __enter__(self) -> "Medium":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Modality(ABC):
    """How one kind of medium is stored and decoded. Stateless; worker processes receive it pickled.

    Attributes:
        name: `InputSpec.modality` of its specs.
        media: Names of its media: columns in Parquet shards and csv files, and the part before the suffix in tars
            (`0001.flow.mp4`).
        suffixes: Suffixes of its files, without the dot.
        feature: Type of its columns in shards built by this package; "binary" stores the bytes of a file.
        in_annotations: Whether values are annotations of a sample, such as captions, which are not decoded.
        leads: Whether `ClipSpec` can choose clips from its frames, which the other media then follow. Its specs and
            media have `num_frames`.
        is_spatial: Whether values have image coordinates, so that crops and flips apply, see `move`.

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
        """Media (or annotations) that provide a spec, in order of preference; by default `spec.media`."""
        return (spec.media,)

    def requested(self, argument: str, spec: InputSpec) -> tuple[str, InputSpec]:
        """Name and spec of the value that a stream decodes for an argument; it differs if a processor completes it."""
        return argument, spec

    def leads_with(self, spec: Any) -> bool:
        """Whether clips are chosen from the frames of this spec; by default whether the modality leads at all."""
        return self.leads

    @abstractmethod
    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Open a file given as bytes.

        Args:
            data: The bytes.
            name: Name in error messages.
            backend: Decoder of frames, see `open_video`.

        Raises:
            BadMediumError: The bytes cannot be read.
        """

    def check(self, data: bytes, name: str) -> None:
        """Reject a corrupt file while shards are built; by default one that cannot be opened.

        Args:
            data: The bytes of the file.
            name: Name in error messages.

        Raises:
            BadMediumError: The file is corrupt.
        """
        with self.open(data, name):
            pass

    def stored(self, data: bytes, name: str) -> tuple[bytes, str]:
        """What shards hold of a file, after `check`; by default the file itself.

        Args:
            data: The bytes of the file.
            name: Its name.

        Returns:
            Bytes that `open` reads, and their name.

        Raises:
            BadMediumError: The file is corrupt.
        """
        return data, name

    def move(self, value: Any, spec: Any, geometry: Callable[[Any], Any], mirrored: bool) -> Any:
        """Apply the geometric transform that all spatial media of a sample share.

        Args:
            value: The result of `Medium.read` for a clip.
            spec: Its spec.
            geometry: Crops, resizes and flips a tensor `(T, C, H, W)`.
            mirrored: Whether `geometry` mirrors left and right.

        Returns:
            The transformed value; by default unchanged, for values without image coordinates.
        """
        return value
