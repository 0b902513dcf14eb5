"""The inference processor of video models."""

from transformers import VideoMAEVideoProcessor

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig


def video_processor(config: TubeletsVideoMAEConfig) -> VideoMAEVideoProcessor:
    """The stock inference processor with a configuration's size, mean and standard deviation.

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
