"""Motions: a batch as tensors, and the motion of one clip as a plain record."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tubelets.motion.key_frames import MODES
from tubelets.motion.settings import ALPHA_SHAPES, MotionSettings

_VERSION = 1


@dataclass(frozen=True)
class MotionRecord:
    """The motion of one clip in plain numbers that JSON can represent.

    It gives the position of every object in every frame, so that captions and trajectory masks need no pixels. Lists
    over objects come first, lists over frames second.

    Attributes:
        frame_size: height and width in pixels.
        boxes: `(x1, y1, x2, y2)` in pixels, before shear and rotation.
        angles: whole degrees, clockwise.
        shears: factors along x and y.
        opacities: 0 (not drawn) to 1.
        source_frames: for each object the frame in which it has its own size (and, for a patch cut from the clip, from
            which it is cut).
        alpha_shapes: outline of each patch cut from the clip, a name in `ALPHA_SHAPES`.
        alpha_edges: where its soft edge begins, 0 for a hard one.
        key_frames: frames that bound the phases of the motion.
        modes: how each phase proceeds, names in `MODES`.
        shift_clipped: see `tubelets.motion.geometry.place`.
        settings: settings the motion was drawn from, `None` for a manual motion.
        objects: names of the objects; empty when they have none.
        sources: ids of the objects in their set; empty when they have none.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> record = motion.records()[0]
        >>> MotionRecord.from_dict(record.to_dict()) == record
        True
    """

    frame_size: tuple[int, int]
    boxes: list[list[list[int]]]
    angles: list[list[int]]
    shears: list[list[list[float]]]
    opacities: list[list[float]]
    source_frames: list[int]
    alpha_shapes: list[str]
    alpha_edges: list[float]
    key_frames: list[int]
    modes: list[str]
    shift_clipped: bool
    settings: MotionSettings | None = None
    objects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        objects, frames = len(self.boxes), len(self.boxes[0]) if self.boxes else 0
        for name in ("boxes", "angles", "shears", "opacities"):
            lengths = {len(track) for track in getattr(self, name)}
            if len(getattr(self, name)) != objects or lengths != {frames} or frames < 2:
                raise ValueError(
                    f"{name} must have a list of the same 2 or more frames for each of {objects} objects (at least 1), "
                    f"got {len(getattr(self, name))} lists of {sorted(lengths)} frames"
                )
        for name in ("source_frames", "alpha_shapes", "alpha_edges"):
            if len(getattr(self, name)) != objects:
                raise ValueError(f"{name} must have an entry for each of {objects} objects, got {getattr(self, name)}")
        unknown = set(self.modes) - set(MODES) | set(self.alpha_shapes) - set(ALPHA_SHAPES)
        if unknown or len(self.modes) != len(self.key_frames) - 1:
            raise ValueError(
                f"modes must be one of {MODES} for each of {len(self.key_frames) - 1} phases and alpha shapes one of "
                f"{ALPHA_SHAPES}, got {self.modes} and {self.alpha_shapes}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The record as a mapping of lists, numbers and strings; `from_dict` reads it."""
        return {"version": _VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MotionRecord":
        """Read the output of `to_dict`, also after a round trip through JSON.

        Args:
            values: the mapping.

        Returns:
            The record.

        Raises:
            ValueError: if the version differs, a field is missing or unknown, or lengths disagree.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if values.get("version") != _VERSION or set(values) != names | {"version"}:
            raise ValueError(
                f"a motion record of version {_VERSION} has the fields {sorted(names)}; got version "
                f"{values.get('version')!r} with {sorted(set(values) - {'version'})}"
            )
        fields = {name: values[name] for name in names}
        fields["frame_size"] = tuple(fields["frame_size"])
        fields["objects"], fields["sources"] = tuple(fields["objects"]), tuple(fields["sources"])
        if fields["settings"] is not None:
            fields["settings"] = MotionSettings.from_dict(fields["settings"])
        return cls(**fields)


@dataclass(frozen=True)
class Motion:
    """The motions of a batch of clips: B clips with N objects over T frames.

    Attributes:
        frame_size: height and width in pixels.
        boxes: int64 `(B, N, T, 4)`, see `MotionRecord` for all fields.
        angles: int64 `(B, N, T)`.
        shears: float32 `(B, N, T, 2)`.
        opacities: float32 `(B, N, T)`.
        source_frames: int64 `(B, N)`.
        alpha_shapes: int64 `(B, N)`, indices of `ALPHA_SHAPES`.
        alpha_edges: float32 `(B, N)`.
        key_frames: int64 `(B, K)`, ascending from 0 to T - 1; the last may be repeated.
        modes: int64 `(B, K - 1)`, indices of `MODES`.
        shift_clipped: see `tubelets.motion.geometry.place`.
        settings: settings they were drawn from.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 4, 16, (224, 224), torch.Generator().manual_seed(0))
        >>> motion.boxes.shape, motion[:1].boxes.shape, len(motion.records())
        (torch.Size([4, 2, 16, 4]), torch.Size([1, 2, 16, 4]), 4)
    """

    frame_size: tuple[int, int]
    boxes: Tensor
    angles: Tensor
    shears: Tensor
    opacities: Tensor
    source_frames: Tensor
    alpha_shapes: Tensor
    alpha_edges: Tensor
    key_frames: Tensor
    modes: Tensor
    shift_clipped: bool = False
    settings: MotionSettings | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, clips: slice) -> "Motion":
        return self._map(lambda values: values[clips])

    def to(self, device: torch.device | str) -> "Motion":
        """The motions on another device."""
        return self._map(lambda values: values.to(device))

    @classmethod
    def concatenate(cls, motions: Sequence["Motion"]) -> "Motion":
        """Concatenate batches drawn from the same settings.

        Args:
            motions: at least one; they agree in frame size, objects, frames and settings.

        Returns:
            One batch.

        Raises:
            ValueError: if the list is empty, or the motions do not agree.

        Example:
            >>> from tubelets.motion import MotionSettings, sample_motion
            >>> generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
            >>> parts = [sample_motion(MotionSettings.smile(), 1, 8, (64, 64), each) for each in generators]
            >>> len(Motion.concatenate(parts))
            3
        """
        kinds = {(motion.frame_size, motion.boxes.shape[1:], motion.settings) for motion in motions}
        if len(kinds) != 1:
            raise ValueError(f"motions of one batch must agree in sizes and settings, got {len(kinds)} kinds of them")
        names = [field.name for field in dataclasses.fields(cls)]
        joined: dict[str, Any] = {
            name: torch.cat([getattr(motion, name) for motion in motions])
            for name in names
            if isinstance(getattr(motions[0], name), Tensor)
        }
        return dataclasses.replace(motions[0], **joined)

    def at(self, frames: Sequence[int]) -> "Motion":
        """The motion over some of the frames.

        Args:
            frames: ascending indices; the objects' own frames and the key frames become the nearest of them.

        Returns:
            The motion over these frames.

        Raises:
            ValueError: if there are fewer than two, or one is out of range.

        Example:
            >>> from tubelets.motion import MotionSettings, sample_motion
            >>> motion = sample_motion(MotionSettings.locomotion(), 1, 16, (64, 64), torch.Generator().manual_seed(0))
            >>> motion.at([0, 5, 10, 15]).boxes.shape
            torch.Size([1, 1, 4, 4])
        """
        last = self.boxes.shape[2] - 1
        if len(frames) < 2 or sorted(set(frames)) != list(frames) or frames[0] < 0 or frames[-1] > last:
            raise ValueError(f"frames must be at least two ascending indices up to {last}, got {list(frames)}")
        picks = torch.tensor(list(frames), device=self.boxes.device)
        nearest = (torch.arange(last + 1, device=picks.device)[:, None] - picks).abs().argmin(dim=1)
        tracks = {name: getattr(self, name).index_select(2, picks) for name in ("boxes", "angles", "shears")}
        return dataclasses.replace(
            self,
            **tracks,
            opacities=self.opacities.index_select(2, picks),
            source_frames=nearest[self.source_frames],
            key_frames=nearest[self.key_frames],
        )

    def records(
        self, objects: Sequence[Sequence[str]] | None = None, sources: Sequence[Sequence[str]] | None = None
    ) -> list[MotionRecord]:
        """One plain record for each clip.

        Args:
            objects: names of the objects of each clip.
            sources: their ids in their set.

        Returns:
            The records.
        """
        lists = {
            name: getattr(self, name).tolist()
            for name in ("boxes", "angles", "shears", "opacities", "source_frames", "alpha_edges")
        }
        records = []
        for clip in range(len(self)):
            keys = self.key_frames[clip].unique_consecutive()
            # A repeated key frame bounds an empty interval, which is not a phase.
            real = self.key_frames[clip].diff() > 0
            records.append(
                MotionRecord(
                    frame_size=self.frame_size,
                    key_frames=keys.tolist(),
                    modes=[MODES[mode] for mode in self.modes[clip][real].tolist()],
                    alpha_shapes=[ALPHA_SHAPES[shape] for shape in self.alpha_shapes[clip].tolist()],
                    shift_clipped=self.shift_clipped,
                    settings=self.settings,
                    objects=tuple(objects[clip]) if objects is not None else (),
                    sources=tuple(sources[clip]) if sources is not None else (),
                    **{name: values[clip] for name, values in lists.items()},
                )
            )
        return records

    def _map(self, function: Any) -> "Motion":
        changes = {
            field.name: function(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **changes)
