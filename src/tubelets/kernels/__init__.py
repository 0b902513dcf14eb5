"""CPU-specific fast paths and the conditions for their use; models do not choose between paths themselves."""

import torch
from torch import Tensor

# Up to this sequence length PyTorch's fused kernel is as fast.
SHORT_SEQUENCE = 256


def prefers_blockwise_attention(key: Tensor) -> bool:
    """Whether attention block by block is faster than PyTorch's fused kernel for these keys.

    Measured on an AMD processor with bfloat16 instructions, where the fused kernel takes two to three times as long. On
    one without them the fused kernel was four times as fast.

    Args:
        key: `(B, heads, keys, width)`.

    Example:
        >>> prefers_blockwise_attention(torch.zeros(1, 2, 1568, 64))
        False
    """
    return (
        key.device.type == "cpu"
        and key.dtype == torch.bfloat16
        and key.shape[2] > SHORT_SEQUENCE
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and _is_amd_with_bfloat16()
    )


def _is_amd_with_bfloat16() -> bool:
    # Older versions of PyTorch do not report capabilities.
    processor = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "AMD" in processor.get("cpu_name", "") and bool(processor.get("avx512_bf16"))
