"""Input specs of any model: declared by our configurations, derived here for those of transformers."""

from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, SpectrogramSpec, VideoSpec
from tubelets.models.common.configuration import RegisteredConfig

# Names of the two numbers in the video models of transformers.
_FRAMES = ("num_frames", "frames_per_clip")
_SIZES = ("image_size", "crop_size")


def model_inputs(config: PreTrainedConfig) -> dict[str, InputSpec]:
    """The inputs of a model of this package or of transformers.

    Args:
        config: the configuration of a video or spectrogram model.

    Returns:
        Argument of `forward` to spec. Configurations of transformers have no mean and deviation: the spec has
        ImageNet's, and inference uses the model's processor.

    Raises:
        ValueError: if the configuration does not state the model's inputs.

    Example:
        >>> from transformers import VJEPA2Config
        >>> model_inputs(VJEPA2Config())["pixel_values_videos"].shape
        (64, 3, 256, 256)
    """
    if isinstance(config, RegisteredConfig):
        return config.input_specs
    fields = config.to_dict()
    if config.model_type == "audio-spectrogram-transformer":
        return {"input_values": SpectrogramSpec(16000, fields["max_length"], fields["num_mel_bins"])}
    frames = next((fields[name] for name in _FRAMES if name in fields), None)
    size = next((fields[name] for name in _SIZES if name in fields), None)
    if frames is None or size is None:
        raise ValueError(
            f"model type {config.model_type!r} does not declare its number of frames and pixels; its configuration "
            f"must have {' or '.join(_FRAMES)}, and {' or '.join(_SIZES)}"
        )
    height, width = (size, size) if isinstance(size, int) else size
    # V-JEPA 2 names its argument differently.
    name = "pixel_values_videos" if config.model_type == "vjepa2" else "pixel_values"
    return {name: VideoSpec(frames, (height, width), fields.get("num_channels", fields.get("in_chans", 3)))}
