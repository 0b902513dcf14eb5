"""Choose the part of a sample that a clip shows, and decode all its media for that part."""

import contextlib
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

import torch

from tubelets.data.modalities.audio import AudioSpec, Position
from tubelets.data.modalities.frame_sampling import (
    dense_test_clips,
    random_dense_clip,
    random_finetune_clip,
    random_jittered_clip,
    random_segment_clip,
    segment_test_clips,
    uniform_clip,
)
from tubelets.data.modalities.interval_sampling import interval_clip, random_interval_clip
from tubelets.data.modalities.modality import Clip, Medium, Modality
from tubelets.data.modalities.presentation import rate_of
from tubelets.data.modalities.registry import modality_of
from tubelets.data.modalities.specs import InputSpec, VideoSpec, WaveformSpec
from tubelets.data.modalities.video import Backend

Sampling = Literal[
    "dense", "jittered", "finetune", "segment", "interval", "dense_test", "segment_test", "interval_test", "uniform"
]


@dataclass(frozen=True)
class ClipSpec:
    """Which frames of a video make a clip; plain values, so that recipes can contain them.

    Attributes:
        num_frames: Frames of a clip, at least 1.
        stride: Distance between them in video frames, at least 1; not used by segment, interval and uniform sampling,
            which span the whole video.
        clips_per_video: Clips per video, at least 1; the video is decoded once for all of them.
        sampling: The function of `frame_sampling` that chooses frames. Random: "dense" (pretraining),
            "jittered" (`stride` is the maximum), "finetune", "segment", "interval". Fixed: "dense_test" and
            "segment_test" (clip k of `clips_per_video`), and "interval_test" and "uniform" (one clip only).
        same_frames: Whether all clips of a video share its first clip's frames and differ only in augmentation
            (repeated augmentation of fine-tuning). False draws frames for each clip.

    Raises:
        ValueError: A number is below 1, or the sampling is unknown, or it gives one clip and more are requested.

    Example:
        >>> ClipSpec(num_frames=4, stride=4, clips_per_video=2, sampling="dense_test").indices(24, 1, torch.Generator())
        [8, 12, 16, 20]
    """

    num_frames: int = 16
    stride: int = 4
    clips_per_video: int = 1
    sampling: Sampling = "dense"
    same_frames: bool = False

    def __post_init__(self) -> None:
        check_least(1, num_frames=self.num_frames, stride=self.stride, clips_per_video=self.clips_per_video)
        check_choice("sampling", self.sampling, get_args(Sampling))
        if self.sampling in ("uniform", "interval_test") and self.clips_per_video > 1:
            raise ValueError(f"sampling={self.sampling!r} gives one clip, but clips_per_video={self.clips_per_video}")

    @classmethod
    def for_specs(
        cls, specs: Mapping[str, InputSpec], stride: int = 4, clips_per_video: int = 1, sampling: Sampling = "dense"
    ) -> "ClipSpec":
        """A `ClipSpec` with the model's number of frames for the leading medium; see `ClipDecoder`.

        Args:
            specs: The model's input specs.
            stride: See the attribute, also for the next two.
            clips_per_video: Clips per sample.
            sampling: How frames are chosen.

        Example:
            >>> ClipSpec.for_specs({"pixel_values": VideoSpec(8, (32, 32))}, stride=2).num_frames
            8
        """
        lead = _leading(_requests(specs))
        # Samples without frames are not cut by a `ClipSpec`, so the number does not matter.
        return cls(lead.spec.num_frames if lead is not None else 1, stride, clips_per_video, sampling)  # type: ignore[attr-defined]

    def indices(self, num_video_frames: int, clip_index: int, generator: torch.Generator) -> list[int]:
        """Choose the frames of one clip.

        Args:
            num_video_frames: Frames of the video, at least 1; a short video repeats frames.
            clip_index: Which clip of the video, 0 to `clips_per_video - 1`.
            generator: Random draws.

        Returns:
            `num_frames` frame indices, never decreasing.
        """
        frames = (num_video_frames, self.num_frames)
        if self.sampling == "dense":
            return random_dense_clip(*frames, self.stride, generator=generator)
        if self.sampling == "jittered":
            return random_jittered_clip(*frames, self.stride, generator=generator)
        if self.sampling == "finetune":
            return random_finetune_clip(*frames, self.stride, generator=generator)
        if self.sampling == "segment":
            return random_segment_clip(*frames, generator=generator)
        if self.sampling == "interval":
            return random_interval_clip(*frames, generator=generator)
        if self.sampling == "dense_test":
            return dense_test_clips(*frames, self.stride, self.clips_per_video)[clip_index]
        if self.sampling == "segment_test":
            return segment_test_clips(*frames, self.clips_per_video)[clip_index]
        if self.sampling == "interval_test":
            return interval_clip(*frames)
        return uniform_clip(*frames)


@dataclass(frozen=True)
class Request:
    """One input value of a model, for one clip.

    Attributes:
        argument: Its key in the items of a stream.
        spec: Its input spec.
        modality: The modality that decodes it.
    """

    argument: str
    spec: InputSpec
    modality: Modality

    def source(self, names: Collection[str]) -> str:
        """Choose the medium (or annotation) to read.

        Args:
            names: The available names.

        Raises:
            ValueError: None of them fits.
        """
        wanted = self.modality.sources(self.spec)
        found = next((name for name in wanted if name in names), None)
        if found is None:
            raise ValueError(
                f"{self.argument} is read from {' or '.join(map(repr, wanted))}, and the data has {sorted(names)}; use "
                "data that has it, or name its column (columns=) in open_source"
            )
        return found


def _requests(specs: Mapping[str, InputSpec]) -> tuple[Request, ...]:
    """The values that a stream decodes for input specs."""
    modalities = {argument: modality_of(spec) for argument, spec in specs.items()}
    return tuple(
        Request(*modalities[argument].requested(argument, spec), modalities[argument])
        for argument, spec in specs.items()
    )


def _leading(requests: Collection[Request]) -> Request | None:
    """The request that determines clip frames: the video, otherwise the first one with frames."""
    leading = [request for request in requests if request.modality.leads_with(request.spec)]
    videos = [request for request in leading if request.modality.sources(request.spec)[0] == "video"]
    return next(iter((*videos, *leading)), None)


@dataclass(frozen=True)
class ClipDecoder:
    """Decodes the clips of a sample: the same time span of all its media.

    The clips are drawn from the frames of the medium "video", or of the first medium with frames; the other media
    follow. Samples without frames are cut according to `position`.

    Attributes:
        clips: Frame sampling; None for models without frames.
        audio: Audio excerpt, decoded as `waveform`; shorthand for a `WaveformSpec` and `position`.
        backend: Video decoder, see `open_video`.
        specs: The model's input specs by argument. None decodes `pixel_values` at the size of the file if `clips` is
            given, and `waveform` if `audio` is given.
        position: Where sounds without frames are cut.
        times: Also state the `Clip.span` of each clip, as `clip_seconds`.

    Raises:
        ValueError: Nothing is requested, both `specs` and `audio` are given, or `clips` does not fit the specs.

    Example:
        >>> from tubelets.data.modalities.audio import encode_audio
        >>> decode = ClipDecoder(None, AudioSpec(8000, seconds=0.25))
        >>> sounds = {"audio": encode_audio(torch.zeros(8000), 8000)}
        >>> (clip,) = decode(sounds, "dog barking", {0: torch.Generator()}, first_seed=0)
        >>> clip["waveform"].shape
        torch.Size([2000])
    """

    clips: ClipSpec | None
    audio: AudioSpec | None = None
    backend: Backend = "auto"
    specs: Mapping[str, InputSpec] | None = None
    position: Position = "random"
    times: bool = False

    def __post_init__(self) -> None:
        if self.clips is None and self.audio is None and not self.specs:
            raise ValueError("clips and audio are both None; give one or both")
        if self.specs is not None and self.audio is not None:
            raise ValueError("audio and specs are both given; put a WaveformSpec into specs instead")
        if self.clips is None or self.specs is None:
            return
        if self.lead is None:
            if self.clips.clips_per_video != 1:
                raise ValueError(
                    f"clips_per_video={self.clips.clips_per_video} must be 1 for audio and whole recordings"
                )
        elif self.lead.spec.num_frames != self.clips.num_frames:  # type: ignore[attr-defined]
            raise ValueError(
                f"clips have num_frames={self.clips.num_frames}, and {self.lead.argument} expects "
                f"{self.lead.spec.num_frames}; use the same number"  # type: ignore[attr-defined]
            )

    @functools.cached_property
    def requests(self) -> tuple[Request, ...]:
        """The values to decode."""
        specs: dict[str, InputSpec] = dict(self.specs or {})
        if self.specs is None and self.clips is not None:
            # The size is not used: frames keep the file's size until a transform changes it.
            specs["pixel_values"] = VideoSpec(self.clips.num_frames, (1, 1))
        if self.audio is not None:
            specs["waveform"] = WaveformSpec(self.audio.sampling_rate, self.audio.seconds)
        return _requests(specs)

    @functools.cached_property
    def decoded(self) -> tuple[Request, ...]:
        """The requests for media; the others are annotations."""
        return tuple(request for request in self.requests if not request.modality.in_annotations)

    @functools.cached_property
    def lead(self) -> Request | None:
        """The request that determines clip frames."""
        return _leading(self.requests)

    @property
    def clips_per_video(self) -> int:
        """Clips per sample."""
        return 1 if self.clips is None or self.lead is None else self.clips.clips_per_video

    def media_of(self, media: Collection[str], annotations: Collection[str]) -> tuple[str, ...]:
        """Return the media to read, after checking that everything requested is available.

        Args:
            media: Names of the media of a source.
            annotations: Names of its annotations.

        Returns:
            Names of media in the order of `media`.

        Raises:
            ValueError: The source lacks what a request needs.
        """
        for request in self.requests:
            if request.modality.in_annotations:
                request.source(annotations)
        used = {request.source(media) for request in self.decoded}
        return tuple(name for name in media if name in used)

    def __call__(
        self, data: Mapping[str, bytes], name: str, generators: Mapping[int, torch.Generator], first_seed: int
    ) -> list[dict[str, Any]]:
        """Decode clips of a sample.

        Args:
            data: The encoded media by name.
            name: Name in error messages.
            generators: Random generator of each requested clip, by its index.
            first_seed: Seed of clip 0, from which all clips draw their frames with `same_frames`.

        Returns:
            For each requested clip its values by argument: frames uint8 (T, C, H, W), audio float32 (samples,),
            skeletons float32 (bodies, frames, joints, coordinates), and the values of other modalities; with `times`,
            also `clip_seconds`.

        Raises:
            BadMediumError: A medium cannot be decoded or lacks the requested part.
        """
        first = next(iter(data))
        places: dict[str, Medium] = {}
        with contextlib.ExitStack() as stack:
            opened: dict[tuple[str, str], Medium] = {}
            for request in self.decoded:
                medium = request.source(data)
                key = medium, request.modality.name
                if key not in opened:
                    # In messages the first medium has the name of the sample.
                    label = name if medium == first else f"{name}, {medium}"
                    opened[key] = stack.enter_context(request.modality.open(data[medium], label, self.backend))
                places[request.argument] = opened[key]
            lead = None if self.lead is None else places[self.lead.argument]
            clips = self._clips(lead, generators, first_seed)
            values = {request.argument: places[request.argument].read(request.spec, clips) for request in self.decoded}
        found = [{argument: value[index] for argument, value in values.items()} for index in range(len(clips))]
        if self.times:
            found = [{**value, "clip_seconds": clip.span} for value, clip in zip(found, clips, strict=True)]
        return found

    def _clips(self, lead: Medium | None, generators: Mapping[int, torch.Generator], first_seed: int) -> list[Clip]:
        """The part of the sample shown by each clip."""
        position = self.position if self.audio is None else self.audio.position
        if self.clips is None or lead is None or lead.num_frames is None:
            return [Clip(generator, position=position) for generator in generators.values()]
        frames = [
            self.clips.indices(lead.num_frames, 0, torch.Generator().manual_seed(first_seed))
            if self.clips.same_frames
            else self.clips.indices(lead.num_frames, index, generator)
            for index, generator in generators.items()
        ]
        return [
            Clip(generator, tuple(chosen), lead.num_frames, _rate(lead, chosen), position, lead.edges)
            for generator, chosen in zip(generators.values(), frames, strict=True)
        ]


def _rate(lead: Medium, frames: list[int]) -> float:
    """Frames per second of the leading medium over the frames of a clip."""
    return lead.fps if lead.edges is None else rate_of(lead.edges[frames[0] : frames[-1] + 2], lead.fps)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Reject an unknown option.

    Args:
        name: Name of the option in messages.
        value: The value.
        allowed: The allowed values.

    Raises:
        ValueError: The value is not allowed.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {allowed}")


def check_least(least: int, **numbers: int) -> None:
    """Reject numbers that are below a minimum or no integers.

    Args:
        least: The minimum.
        numbers: The numbers by name.

    Raises:
        ValueError: A number is smaller.
    """
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < least:
            raise ValueError(f"{name}={number} must be at least {least}")
