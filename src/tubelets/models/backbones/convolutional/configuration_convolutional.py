"""Fields that every convolutional video backbone has."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, VideoSpec
from tubelets.models.common.configuration import RegisteredConfig

# Ten times the largest published video CNN.
MAX_VALUES = 2**30


@strict
class ConvolutionalConfig(RegisteredConfig, PreTrainedConfig):
    r"""Fields of every convolutional video backbone.

    Args:
        image_size: height and width in pixels of processed frames; the model accepts other sizes.
        num_frames: frames per clip; the model accepts other numbers.
        num_channels: colour channels.
        batch_norm_eps: epsilon of every batch norm.
        batch_norm_momentum: weight of the newest batch in the running statistics.
        head_dropout: dropout before the classifier, in [0, 1).
        image_mean: mean of each colour channel, on the scale [0, 1].
        image_std: standard deviation of each colour channel, on the scale [0, 1].
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.
    """

    image_size: int = 112
    num_frames: int = 16
    num_channels: int = 3
    batch_norm_eps: float | int = 1e-3
    batch_norm_momentum: float | int = 0.1
    head_dropout: float | int = 0.0
    image_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    image_std: list[float] | tuple[float, ...] = IMAGENET_STD

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames."""
        statistics = tuple(self.image_mean), tuple(self.image_std)
        return {"pixel_values": VideoSpec(self.num_frames, self.image_height_width, self.num_channels, *statistics)}

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.image_size, self.image_size

    @property
    def num_values(self) -> int:
        """Approximate number of weights."""
        return 0

    def validate_values(self) -> None:
        """Reject networks beyond any published one: configurations may come from untrusted files."""
        if self.num_values > MAX_VALUES:
            raise ValueError(
                f"a network of these sizes would hold about {self.num_values:.3g} values, more than {MAX_VALUES:.3g}; "
                "choose fewer or narrower layers"
            )

    def validate_input(self) -> None:
        """Reject sizes and statistics out of range."""
        for name in ("image_size", "num_frames", "num_channels", "batch_norm_eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.head_dropout < 1 or not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(
                "head_dropout must lie in [0, 1) and batch_norm_momentum in (0, 1], got "
                f"{self.head_dropout} and {self.batch_norm_momentum}"
            )
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(f"{name} must have {self.num_channels} entries, got {getattr(self, name)}")
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std must be positive, got {self.image_std}")
