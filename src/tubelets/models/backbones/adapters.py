"""Encoders of transformers as backbones: one call for any model, see `tubelets.models.common.backbone`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tubelets.models.common.backbone import Backbone, VideoBackbone


def _mean_of_tokens(tokens: Tensor) -> Tensor:
    return tokens.mean(dim=1)


def _class_token(tokens: Tensor) -> Tensor:
    return tokens[:, 0]


def _mean_of_class_tokens(tokens: Tensor) -> Tensor:
    return tokens[:, :2].mean(dim=1)


def _tubelet(config: PreTrainedConfig) -> tuple[int, int, int]:
    return (config.tubelet_size, config.patch_size, config.patch_size)


def _vivit_tubelet(config: PreTrainedConfig) -> tuple[int, int, int]:
    return tuple(config.tubelet_size)


def _frame_patch(config: PreTrainedConfig) -> tuple[int, int, int]:
    return (1, config.patch_size, config.patch_size)


@dataclass(frozen=True)
class _Family:
    """How the models of one type order and pool their tokens.

    Attributes:
        pool: tokens `(B, N, D)` to the vector that the family's own classifier computes first.
        num_class_tokens: leading tokens without a position in the clip.
        tubelet: frames, rows and columns of a token; None for models without video input.
        time_fastest: whether tokens are ordered (rows, columns, time) and not (time, rows, columns).
        options: further arguments of `forward`.
    """

    pool: Callable[[Tensor], Tensor]
    num_class_tokens: int = 0
    tubelet: Callable[[PreTrainedConfig], tuple[int, int, int]] | None = None
    time_fastest: bool = False
    options: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    # Their classifiers use the mean over tokens, after `fc_norm` or replaced by an attentive pooler.
    "videomae": _Family(_mean_of_tokens, tubelet=_tubelet),
    "vjepa2": _Family(_mean_of_tokens, tubelet=_tubelet, options={"skip_predictor": True}),
    "timesformer": _Family(_class_token, 1, _frame_patch, time_fastest=True),
    "vivit": _Family(_class_token, 1, _vivit_tubelet),
    "audio-spectrogram-transformer": _Family(_mean_of_class_tokens, 2),
}


class TransformersBackbone(Backbone):
    """An encoder of transformers as a backbone, created by `as_backbone`.

    Args:
        model: an encoder of one of `FAMILIES`.

    Attributes:
        model: the encoder; its weights are the backbone's only ones.
        config: its configuration.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.train(model.training)

    @property
    def family(self) -> _Family:
        """How the encoder orders and pools its tokens."""
        return FAMILIES[self.config.model_type]

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.hidden_size

    @property
    def num_class_tokens(self) -> int:  # type: ignore[override]
        """Leading tokens of `last_hidden_state` without a position in the clip."""
        return self.family.num_class_tokens

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips; arguments as for the encoder, whose input is also the first positional one.

        Returns:
            `last_hidden_state` `(B, N, D)` and `pooler_output` `(B, D)`, what the family's own classifier pools.
        """
        output = self.model(*args, **{**self.family.options, **kwargs, "return_dict": True})
        return BaseModelOutputWithPooling(
            last_hidden_state=output.last_hidden_state,
            pooler_output=self.family.pool(output.last_hidden_state),
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


class TransformersVideoBackbone(TransformersBackbone, VideoBackbone):
    """A video encoder of transformers as a backbone, created by `as_backbone`."""

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features `(B, D, T, H, W)` of normalised clips `(B, frames, channels, height, width)`."""
        family = self.family
        tokens = self.tokens(self(pixel_values).last_hidden_state)
        frames, _, height, width = pixel_values.shape[1:]
        time, rows, columns = family.tubelet(self.config)  # type: ignore[misc]
        grid = (frames // time, height // rows, width // columns)
        if family.time_fastest:
            return tokens.unflatten(1, (*grid[1:], grid[0])).permute(0, 4, 3, 1, 2)
        return tokens.unflatten(1, grid).permute(0, 4, 1, 2, 3)


def as_backbone(model: nn.Module) -> Backbone:
    """Return a model as a backbone, with a known feature size and pooling.

    Args:
        model: an encoder of this package; VideoMAE, TimeSformer, ViViT, V-JEPA 2 or Audio Spectrogram Transformer of
            transformers; or one of these with a head, which is stripped.

    Returns:
        The encoder itself if it implements the contract, or an adapter around it.

    Raises:
        TypeError: if the model is of another kind.

    Example:
        >>> from transformers import TimesformerConfig, TimesformerModel
        >>> sizes = {"image_size": 32, "num_frames": 2, "hidden_size": 24, "num_attention_heads": 2}
        >>> config = TimesformerConfig(**sizes, num_hidden_layers=1, intermediate_size=32)
        >>> backbone = as_backbone(TimesformerModel(config))
        >>> backbone.feature_size, backbone.feature_map(torch.zeros(1, 2, 3, 32, 32)).shape
        (24, torch.Size([1, 24, 2, 2, 2]))
    """
    if isinstance(model, PreTrainedModel):
        model = model.base_model
    if isinstance(model, Backbone):
        return model
    family = FAMILIES.get(model.config.model_type) if isinstance(model, PreTrainedModel) else None
    if family is None:
        raise TypeError(
            f"{type(model).__name__} is not a backbone; give a subclass of `{Backbone.__module__}.Backbone` or a model "
            f"of transformers of type {', '.join(sorted(FAMILIES))}"
        )
    if model.config.model_type == "timesformer" and model.config.attention_type == "space_only":
        raise TypeError("TimeSformer with attention_type='space_only' encodes frames one by one; choose another type")
    return TransformersBackbone(model) if family.tubelet is None else TransformersVideoBackbone(model)
