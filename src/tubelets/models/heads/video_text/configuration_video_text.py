"""Configuration of a dual encoder of videos and texts."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from tubelets.data.modalities.specs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, TextSpec, VideoSpec
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.field_checks import RANGES

OPEN_CLIP = "open_clip"
"""Type of a tower that is described by the configuration of an open_clip model."""
# Largest number in the configuration of a tower, and most entries of its table of words or positions.
MAX_SIZE, MAX_TABLE = 2**24, 2**31
# Fields of a tower's configuration that describe a head, a file or a run.
NOT_OF_THE_TOWER = {
    "_commit_hash", "_name_or_path", "architectures", "dtype", "id2label", "label2id", "problem_type", "torch_dtype",
    "transformers_version",
}  # fmt: skip


@strict
class VideoTextDualEncoderConfig(RegisteredConfig, PreTrainedConfig):
    r"""Two encoders, projections to a common space, and the loss that compares them.

    Args:
        video_tower: configuration of the video side, with its `model_type`: a video backbone of this package or of
            transformers, an image encoder of transformers, or `{"model_type": "open_clip", ...}` with the `embed_dim`,
            `vision_cfg` and `quick_gelu` of an open_clip model. None is VideoMAE-B.
        text_tower: configuration of the text side: an encoder of transformers, or an open_clip model with `text_cfg`.
            None is BERT-base.
        num_segments: vectors of a video that are pooled: clips of a video backbone, frames of an image encoder.
        pooling: `mean` of the vectors, or `temporal`: a small transformer over them with positions, then their mean.
        temporal_layers: blocks of that transformer.
        temporal_heads: attention heads of that transformer; they divide the width of the video tower.
        projection_dim: width of the common space; None compares the features of the towers, which must be equally
            wide, without projections.
        text_pooling: `first` token, `mean` over tokens, `pooler` of the encoder; `auto` is the pooler of CLIP and
            SigLIP text encoders and the mean of others. open_clip's towers pool by themselves.
        max_length: tokens of a text.
        tokenizer: Hub id or folder of the text side's tokenizer; None if the processor is given one.
        loss_type: `softmax`, the symmetric contrastive loss, or `sigmoid`, which decides about each pair alone.
        logit_scale_init: logarithm of the initial factor on cosine similarities.
        logit_bias_init: initial bias of the sigmoid loss.
        freeze_video: do not train the video tower; it stays in evaluation mode.
        freeze_text: do not train the text tower; it stays in evaluation mode.
        image_mean: mean of each colour channel, on the scale [0, 1].
        image_std: standard deviation of each colour channel, on the scale [0, 1].
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> config = VideoTextDualEncoderConfig(video_tower={"model_type": "resnet3d"}, num_segments=2)
        >>> config.input_specs["pixel_values"].shape, config.input_specs["input_ids"].vocab_size
        ((32, 3, 112, 112), 30522)
    """

    model_type = "video_text_dual_encoder"
    field_ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **RANGES,
        "num_segments": (1, 2**12),
        "temporal_layers": (1, 64),
        "temporal_heads": (1, 2**10),
        "projection_dim": (1, 2**16),
        "max_length": (1, 2**14),
        "logit_scale_init": (0, 10),
        "logit_bias_init": (-100, 100),
    }

    video_tower: dict[str, Any] | None = None
    text_tower: dict[str, Any] | None = None
    num_segments: int = 1
    pooling: Literal["mean", "temporal"] = "mean"
    temporal_layers: int = 2
    temporal_heads: int = 8
    projection_dim: int | None = 512
    text_pooling: Literal["auto", "first", "mean", "pooler"] = "auto"
    max_length: int = 32
    tokenizer: str | None = None
    loss_type: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale_init: float | int = 2.6592
    logit_bias_init: float | int = -10.0
    freeze_video: bool = False
    freeze_text: bool = False
    image_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    image_std: list[float] | tuple[float, ...] = IMAGENET_STD

    @property
    def video_model_config(self) -> PreTrainedConfig:
        """The configuration of the video tower; for open_clip a plain one that holds its fields."""
        return tower_config(self.video_tower or {"model_type": "tubelets_videomae"})

    @property
    def text_model_config(self) -> PreTrainedConfig:
        """The configuration of the text tower; for open_clip a plain one that holds its fields."""
        return tower_config(self.text_tower or {"model_type": "bert"})

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames and the ids of a caption's tokens."""
        # Imported here: the towers import torch, and `import tubelets` reads configurations.
        from tubelets.models.heads.video_text.towers import text_size, video_input

        clip = video_input(self.video_model_config)
        statistics = tuple(self.image_mean), tuple(self.image_std)
        frames = VideoSpec(self.num_segments * clip.num_frames, clip.size, clip.num_channels, *statistics)
        return {"pixel_values": frames, "input_ids": TextSpec(self.max_length, text_size(self.text_model_config))}

    def validate_towers(self) -> None:
        """Reject towers without a type, with sizes beyond any published model, or that cannot be built together."""
        for name in ("video_tower", "text_tower"):
            tower = getattr(self, name)
            if tower is None:
                continue
            if not isinstance(tower.get("model_type"), str):
                raise ValueError(f"{name} must name its model_type, got {sorted(tower)[:10]}")
            if (largest := max(_numbers(tower), default=0)) > MAX_SIZE:
                raise ValueError(f"{name} has the number {largest:g}, beyond memory; at most {MAX_SIZE}")
            width = tower.get("hidden_size") or 1
            if isinstance(width, int) and width * (tower.get("vocab_size") or 1) > MAX_TABLE:
                raise ValueError(f"{name} has a table of {width} x {tower['vocab_size']} values, beyond memory")

    def validate_pooling(self) -> None:
        """Reject a transformer over a single vector."""
        if self.pooling == "temporal" and self.num_segments < 2:
            raise ValueError(
                f"pooling='temporal' attends over several clips or frames and num_segments={self.num_segments}; set it "
                "to 2 or more, or pooling to 'mean'"
            )

    def validate_statistics(self) -> None:
        """Reject deviations that are not positive."""
        if len(self.image_mean) != len(self.image_std) or min(self.image_std, default=0) <= 0:
            raise ValueError(
                "image_mean and image_std must have a value for each channel, deviations positive, got "
                f"{self.image_mean} and {self.image_std}"
            )


class OpenClipTowerConfig(PreTrainedConfig):
    """Fields of one side of an open_clip model; it has no Auto class.

    Args:
        **kwargs: `embed_dim`, `quick_gelu`, and `vision_cfg` or `text_cfg`.
    """

    model_type = OPEN_CLIP


def tower_config(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of a tower.

    Args:
        fields: its content, with `model_type`.

    Returns:
        A configuration of this package, of transformers, or `OpenClipTowerConfig`.

    Raises:
        ValueError: if the model type is unknown.

    Example:
        >>> tower_config({"model_type": "bert", "hidden_size": 24}).hidden_size
        24
    """
    given = {name: value for name, value in fields.items() if name != "model_type"}
    if fields["model_type"] == OPEN_CLIP:
        return OpenClipTowerConfig(**given)
    return AutoConfig.for_model(fields["model_type"], **given)


def tower_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """The content of a tower's configuration, without what belongs to a head, a file or a run.

    Example:
        >>> from transformers import BertConfig
        >>> tower_fields(BertConfig(num_labels=9))["model_type"], "id2label" in tower_fields(BertConfig())
        ('bert', False)
    """
    found = {name: value for name, value in config.to_dict().items() if name not in NOT_OF_THE_TOWER}
    return {**found, "model_type": config.model_type}


def _numbers(value: Any) -> Iterator[float]:
    """Every number inside of nested mappings and lists."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(entry)
