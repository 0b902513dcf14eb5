"""The backbone contract, on which heads, probes, retrieval and detection rely for any network.

A backbone is a module whose `forward` returns `last_hidden_state` and `pooler_output`, one vector `(B, feature_size)`
per clip, pooled the way its authors pool it. Code that uses a backbone never pools by itself. Models of this package
implement the contract directly; `tubelets.models.backbones.adapters.as_backbone` adapts those of transformers.
"""

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn


class Backbone(nn.Module):
    """Base class of encoders; a model of transformers names it before `PreTrainedModel` among its bases.

    Subclasses define `feature_size`, an integer or a property, and `forward`, whose output has

    - `last_hidden_state`: tokens `(B, N, D)`, or a feature map `(B, D, T, H, W)`;
    - `pooler_output`: `(B, feature_size)`, the model's own pooling of it.

    Attributes:
        feature_size: width D of the pooled feature.
        num_class_tokens: tokens at the front of `last_hidden_state` that do not belong to a place in the clip.

    Raises:
        TypeError: when a subclass is defined without `feature_size` or `forward`.

    Example:
        >>> from types import SimpleNamespace
        >>> class MeanColour(Backbone):
        ...     feature_size = 3
        ...
        ...     def forward(self, pixel_values):
        ...         pixels = pixel_values.movedim(2, 1)
        ...         return SimpleNamespace(last_hidden_state=pixels, pooler_output=pixels.mean(dim=(2, 3, 4)))
        >>> import torch
        >>> MeanColour()(torch.zeros(2, 4, 3, 8, 8)).pooler_output.shape
        torch.Size([2, 3])
        >>> class Headless(Backbone):
        ...     feature_size = 3
        Traceback (most recent call last):
        ...
        TypeError: Headless must define `forward`, see `tubelets.models.common.backbone.Backbone`
    """

    num_class_tokens: ClassVar[int] = 0
    required: ClassVar[tuple[str, ...]] = ("feature_size", "forward")

    if TYPE_CHECKING:

        @property
        def feature_size(self) -> int:
            """Width of the pooled feature."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        """Reject a backbone that does not implement the contract, unless it is `abstract`."""
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        for name in cls.required:
            # nn.Module itself has a `forward`, which only raises.
            if inspect.getattr_static(cls, name, None) in (None, inspect.getattr_static(nn.Module, name, None)):
                raise TypeError(f"{cls.__name__} must define `{name}`, see `{__name__}.Backbone`")

    def tokens(self, last_hidden_state: Tensor) -> Tensor:
        """Return the features of positions in a clip, without class tokens, as used by attentive probes.

        Args:
            last_hidden_state: tokens `(B, N, D)` or a feature map `(B, D, T, H, W)`.

        Returns:
            `(B, N - num_class_tokens, D)`, or `(B, T * H * W, D)`.
        """
        if last_hidden_state.ndim > 3:
            return last_hidden_state.flatten(2).transpose(1, 2)
        return last_hidden_state[:, self.num_class_tokens :]


class VideoBackbone(Backbone, abstract=True):
    """A backbone of clips whose features lie on a grid of times, rows and columns, as detection and counting need.

    Subclasses define `feature_map(pixel_values)` as well.

    Example:
        >>> class NoMap(VideoBackbone):
        ...     feature_size = 3
        ...
        ...     def forward(self, pixel_values): ...
        Traceback (most recent call last):
        ...
        TypeError: NoMap must define `feature_map`, see `tubelets.models.common.backbone.Backbone`
    """

    required = ("feature_size", "forward", "feature_map")

    if TYPE_CHECKING:

        def feature_map(self, pixel_values: Tensor) -> Tensor:
            """Features `(B, feature_size, T, H, W)` of clips `(B, frames, channels, height, width)`."""
