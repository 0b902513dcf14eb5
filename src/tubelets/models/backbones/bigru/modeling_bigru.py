"""BiGRU, the sequence encoder of Skeleton-Contrast (skeleton_contrast.md, section 3.1).

The official encoder is fed one frame at a time, so that its "reverse" direction runs forward in time too. Here each
layer is two one-directional GRUs over the whole clip, which gives the same numbers without a loop over frames.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from tubelets.models.backbones.bigru.configuration_bigru import BiGruConfig
from tubelets.models.backbones.skeleton_networks.modeling_skeleton import (
    SkeletonForClassification,
    SkeletonModel,
    SkeletonPreTrainedModel,
    check_clips,
)
from tubelets.skeletons import as_sequence

_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_DIRECTIONS = ("", "_reverse")


class TwoGrus(nn.Module):
    """Layers of two GRUs each, with the parameter names of a bidirectional `torch.nn.GRU`.

    Args:
        input_size: numbers of a frame.
        hidden_size: units of a direction.
        num_layers: layers; each reads both outputs of the one before.
        time_reversed: the second GRU of a layer reads from the last frame to the first.

    Example:
        >>> grus = TwoGrus(6, 4, num_layers=2)
        >>> output, last = grus(torch.zeros(1, 5, 6))
        >>> output.shape, last.shape, sorted(grus.state_dict())[:2]
        (torch.Size([1, 5, 8]), torch.Size([1, 8]), ['bias_hh_l0', 'bias_hh_l0_reverse'])
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, time_reversed: bool = False) -> None:
        super().__init__()
        self.hidden_size, self.num_layers, self.time_reversed = hidden_size, num_layers, time_reversed
        for layer in range(num_layers):
            sizes = {"weight_ih": input_size if layer == 0 else 2 * hidden_size, "weight_hh": hidden_size}
            for direction in _DIRECTIONS:
                for name in _PARAMETERS:
                    shape = (3 * hidden_size, sizes[name]) if name in sizes else (3 * hidden_size,)
                    self.register_parameter(f"{name}_l{layer}{direction}", nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Matrices Xavier-uniform, biases uniform as PyTorch's own (skeleton_contrast.md, section 3.1)."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            if parameter.ndim == 2:
                init.xavier_uniform_(parameter)
            else:
                init.uniform_(parameter, -bound, bound)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TwoGrus":
        """Move or convert the weights, then keep those of a GRU in one piece of memory, as cuDNN reads them."""
        super()._apply(fn, recurse)
        self._flatten()
        return self

    @torch.no_grad()
    def _flatten(self) -> None:
        for layer in range(self.num_layers):
            for direction in _DIRECTIONS:
                weights = self._weights(layer, direction)
                # Sharded and shared weights stay where they are.
                plain = all(type(weight.data) is Tensor and weight.is_cuda for weight in weights)
                if plain and len({weight.data_ptr() for weight in weights}) == len(weights):
                    mode = torch.backends.cudnn.rnn.get_cudnn_mode("GRU")
                    sizes = weights[0].shape[1], mode, self.hidden_size, 0, 1
                    torch._cudnn_rnn_flatten_weight(weights, len(weights), *sizes, False, False)

    def _weights(self, layer: int, direction: str) -> list[Tensor]:
        return [getattr(self, f"{name}_l{layer}{direction}") for name in _PARAMETERS]

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Read sequences.

        Args:
            frames: `(B, T, input_size)`.

        Returns:
            Outputs of the last layer `(B, T, 2 * hidden_size)`, and its states at the ends of both readings
            `(B, 2 * hidden_size)`.
        """
        last: list[Tensor] = []
        # The kernels read time first; turned once here, not in every layer.
        frames = frames.transpose(0, 1)
        for layer in range(self.num_layers):
            outputs = []
            last = []
            for direction in _DIRECTIONS:
                turned = bool(direction) and self.time_reversed
                start = frames.new_zeros(1, frames.shape[1], self.hidden_size)
                weights = self._weights(layer, direction)
                read = frames.flip(0) if turned else frames
                # Arguments: biases, one layer, no dropout, training, one direction, time first.
                output, state = torch.gru(read, start, weights, True, 1, 0.0, self.training, False, False)
                outputs.append(output.flip(0) if turned else output)
                last.append(state[0])
            frames = torch.cat(outputs, dim=-1)
        return frames.transpose(0, 1), torch.cat(last, dim=-1)


class _BiGruPreTrainedModel(SkeletonPreTrainedModel):
    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, TwoGrus):
            module.reset_parameters()
        else:
            super()._init_weights(module)


class BiGruModel(SkeletonModel, _BiGruPreTrainedModel):
    """BiGRU without its classifier.

    Args:
        config: sizes and layout.

    Example:
        >>> output = BiGruModel(BiGruConfig(hidden_size=8))(torch.zeros(1, 2, 16, 25, 3))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([1, 16, 16]), torch.Size([1, 16]))
    """

    config: BiGruConfig
    config_class = BiGruConfig
    _no_split_modules = ["TwoGrus"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: BiGruConfig) -> None:
        super().__init__(config)
        sizes = config.frame_size, config.hidden_size, config.num_layers
        self.gru = TwoGrus(*sizes, config.time_reversed_backward)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The recurrent layers."""
        return self.gru

    @can_return_tuple
    def forward(self, skeletons: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`, any number of frames.
            **kwargs: `return_dict`.

        Returns:
            `last_hidden_state` `(B, frames, 2 * hidden_size)` and `pooler_output` `(B, 2 * hidden_size)`: the states
            after the last frame that each direction read.

        Raises:
            ValueError: if the skeletons do not fit the configuration.
        """
        check_clips(skeletons, self.config)
        output, last = self.gru(as_sequence(skeletons))
        return BaseModelOutputWithPooling(last_hidden_state=output, pooler_output=last)


class BiGruForSkeletonClassification(SkeletonForClassification, _BiGruPreTrainedModel):
    """Skeleton classifier on BiGRU.

    Args:
        config: sizes, layout and labels.

    Example:
        >>> model = BiGruForSkeletonClassification(BiGruConfig(hidden_size=8, num_labels=5))
        >>> model(torch.zeros(2, 2, 16, 25, 3)).logits.shape
        torch.Size([2, 5])
    """

    config: BiGruConfig
    config_class = BiGruConfig
    backbone_class = BiGruModel
