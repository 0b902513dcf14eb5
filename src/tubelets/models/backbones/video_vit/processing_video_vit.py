"""The inference processor of video models."""

from collections.abc import Callable
from typing import Any

import transformers
from torch import Tensor
from transformers.video_utils import VideoMetadata

from tubelets.data.modalities.remote import is_address, read_address
from tubelets.data.modalities.video import open_video
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig


class VideoMAEVideoProcessor(transformers.VideoMAEVideoProcessor):
    """transformers' processor, which reads files with this package's decoder: no FFmpeg has to be installed.

    It has the name of its base class, which folders store, so that transformers alone can read them.

    Example:
        >>> processor = VideoMAEVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        >>> isinstance(processor, transformers.VideoMAEVideoProcessor)
        True
    """

    def fetch_videos(
        self,
        video_url_or_urls: str | list[str] | list[list[str]],
        sample_indices_fn: Callable[..., Any] | None = None,
    ) -> Any:
        """Decode videos by path or address; transformers calls this for inputs that are not decoded yet.

        Args:
            video_url_or_urls: a local path or an address, see `tubelets.read_clip`, or a list of them.
            sample_indices_fn: function from the `metadata` of a video to the indices of its frames; all by default.

        Returns:
            Frames `(frames, 3, height, width)`, uint8, and their `VideoMetadata`; for a list, the tuple of all frames
            and the tuple of all metadata.

        Raises:
            BadVideoError: if a video cannot be fetched or read.
        """
        if isinstance(video_url_or_urls, list):
            read = [self.fetch_videos(entry, sample_indices_fn) for entry in video_url_or_urls]
            return list(zip(*read, strict=True))
        return _read_sampled(video_url_or_urls, sample_indices_fn)


def _read_sampled(source: str, sample_indices_fn: Callable[..., Any] | None) -> tuple[Tensor, VideoMetadata]:
    content = read_address(source) if is_address(source) else source
    with open_video(content, name=source) as reader:
        metadata = VideoMetadata(
            total_num_frames=reader.num_frames,
            fps=reader.fps,
            width=reader.width,
            height=reader.height,
            duration=float(reader.edges[-1] - reader.edges[0]),
            video_backend="pyav",
        )
        chosen = range(reader.num_frames) if sample_indices_fn is None else sample_indices_fn(metadata=metadata)
        metadata.frames_indices = [int(index) for index in chosen]
        return reader.get_frames(metadata.frames_indices), metadata


def video_processor(config: TubeletsVideoMAEConfig) -> VideoMAEVideoProcessor:
    """The inference processor of transformers with a configuration's size, mean and standard deviation.

    It resizes the shorter side, crops the centre and normalises; frames that are not square are resized to their height
    and width, because the stock processor would fill the rest of a crop with black. The caller samples frames, for
    instance with `tubelets.read_clip`: the stock processor spreads them over the video, which is not the papers' rule.

    Args:
        config: the model's configuration.

    Returns:
        A processor whose `pixel_values` are float `(clips, frames, channels, height, width)`.

    Example:
        >>> processor = video_processor(TubeletsVideoMAEConfig(image_size=32, num_frames=4))
        >>> processor(torch.zeros(4, 3, 48, 64, dtype=torch.uint8), return_tensors="pt").pixel_values.shape
        torch.Size([1, 4, 3, 32, 32])
    """
    height, width = config.image_height_width
    return VideoMAEVideoProcessor(
        size={"shortest_edge": height} if height == width else {"height": height, "width": width},
        crop_size={"height": height, "width": width},
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )
