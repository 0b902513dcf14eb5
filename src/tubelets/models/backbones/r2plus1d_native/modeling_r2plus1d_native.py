"""AVID-CMA's and RSPNet's own factorised video ResNets (severe_benchmark.md, section 4).

Both papers call theirs R(2+1)D; neither is torchvision's network of that name (`resnet3d`). Stages have its names
here: `stem`, `layer1` to `layer4`. The networks are in `avid` and `rspnet`.
"""

from typing import Any

from torch import Tensor, nn

from tubelets.kernels.convolutions import use_cpu_convolutions
from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
)
from tubelets.models.backbones.r2plus1d_native.avid import AvidBlock, AvidStem
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.rspnet import RspnetBlock, RspnetStem

PARTS: dict[str, tuple[Any, Any]] = {"avid_cma": (AvidStem, AvidBlock), "rspnet": (RspnetStem, RspnetBlock)}


class R2Plus1DNativeModel(ConvolutionalModel):
    """The network of AVID-CMA or of RSPNet without its classifier.

    Args:
        config: variant and sizes.

    Example:
        >>> import torch
        >>> model = R2Plus1DNativeModel(R2Plus1DNativeConfig(variant="rspnet", hidden_sizes=(8, 16, 24, 32)))
        >>> model(torch.zeros(1, 8, 3, 32, 32)).last_hidden_state.shape
        torch.Size([1, 32, 1, 2, 2])
    """

    config: R2Plus1DNativeConfig
    config_class = R2Plus1DNativeConfig
    _no_split_modules = ["AvidStem", "AvidBlock", "RspnetStem", "RspnetBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        super().__init__(config)
        stem, block = PARTS[config.variant]
        self.stem = stem(config)
        size_in, depths = config.hidden_sizes[0], config.depths or ()
        for stage, (depth, size) in enumerate(zip(depths, config.hidden_sizes, strict=True), start=1):
            blocks = [block(config, size_in, size, 1 if stage == 1 else 2)]
            blocks += [block(config, size, size, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            size_in = size
        self.stage_names = ("stem", *(f"layer{stage}" for stage in range(1, len(depths) + 1)))
        use_cpu_convolutions(self)
        self.post_init()

    def pool(self, hidden: Tensor) -> Tensor:
        """Pool a feature map: the maximum over time and space for AVID-CMA, the mean for RSPNet."""
        return hidden.amax(dim=(2, 3, 4)) if self.config.variant == "avid_cma" else super().pool(hidden)


class R2Plus1DNativeForVideoClassification(ConvolutionalForVideoClassification):
    """Video classifier on the network of AVID-CMA or of RSPNet: pooled feature, dropout, linear layer.

    Args:
        config: variant, sizes and labels.

    Example:
        >>> import torch
        >>> config = R2Plus1DNativeConfig(hidden_sizes=(8, 16, 24, 32), num_labels=5)
        >>> R2Plus1DNativeForVideoClassification(config)(torch.zeros(2, 8, 3, 64, 64)).logits.shape
        torch.Size([2, 5])
    """

    config: R2Plus1DNativeConfig
    config_class = R2Plus1DNativeConfig
    backbone_class = R2Plus1DNativeModel
