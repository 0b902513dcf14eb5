"""How a model runs: in several processes, recomputing activations, compiled, with the fastest kernels of its device."""

import logging
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers import PreTrainedModel

from tubelets.models.backbones.convolutional.modeling_convolutional import ConvolutionalPreTrainedModel

logger = logging.getLogger("tubelets.training")


def computes_bfloat16() -> bool:
    """Whether this machine has instructions for bfloat16: its accelerator, or its CPU without one.

    PyTorch emulates them elsewhere: a step of a small R3D took 58 s in bfloat16 and 3.5 s in float32 on two cores with
    AVX2 only.

    Example:
        >>> type(computes_bfloat16()).__name__
        'bool'
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available():
        return True
    # Older versions of PyTorch do not report capabilities.
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def choose_precision(precision: str) -> str:
    """Choose the precision for this machine, where `auto` leaves it open.

    Args:
        precision: `auto`, `fp32`, `bf16` or `fp16`.

    Returns:
        For `auto`: `bf16` if the machine computes it, otherwise `fp32`, with a line in the log. Anything else as it is;
        the log warns of a `bf16` that the machine emulates.

    Example:
        >>> choose_precision("fp16")
        'fp16'
    """
    if precision not in ("auto", "bf16"):
        return precision
    if computes_bfloat16():
        return "bf16"
    if precision == "bf16":
        logger.warning("bfloat16 was asked for and is emulated on this machine, far slower than float32")
        return precision
    logger.info("computing in float32: this machine has no instructions for bfloat16, which would be far slower")
    return "fp32"


def data_parallel_settings() -> DistributedDataParallelKwargs:
    """Settings of DistributedDataParallel, for `Accelerator(kwargs_handlers=[...])`.

    Example:
        >>> data_parallel_settings().to_kwargs()
        {'gradient_as_bucket_view': True}
    """
    # Gradients are views of what is reduced, instead of copies of it: less memory, no copy.
    return DistributedDataParallelKwargs(gradient_as_bucket_view=True)


def keep_own_buffers(model: nn.Module) -> None:
    """Let the processes of DistributedDataParallel not exchange buffers before each forward pass.

    Statistics of batch norm and a queue of keys are each process's own, or equal anyway.

    Args:
        model: as `prepare` returned it; nothing happens to one that is not wrapped.

    Example:
        >>> keep_own_buffers(nn.Linear(1, 1))
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        # The attribute: the argument of that name is deprecated, and accelerate cannot pass the one that replaces it.
        model.broadcast_buffers = False


def take_over_checkpointing(accelerator: Accelerator) -> bool:
    """Whether the launcher's FSDP configuration asks for activation checkpointing, which accelerate then leaves to us.

    accelerate's recomputes blocks with other random numbers than in the forward pass, so that gradients are wrong with
    dropout or stochastic depth, and updates the statistics of batch norm twice. The models' own does neither.

    Args:
        accelerator: before `prepare`.

    Returns:
        True if `enable_checkpointing` is to be called.
    """
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    if plugin is None or not plugin.activation_checkpointing:
        return False
    plugin.activation_checkpointing = False
    return True


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Let the blocks of a model recompute their activations in the backward pass.

    Args:
        model: changed in place.

    Raises:
        ValueError: if the model does not support it.

    Example:
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> model = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))
        >>> enable_checkpointing(model)
        >>> model.stem.gradient_checkpointing
        True
    """
    # The older of the supported versions of transformers have only the name that the newer ones deprecate.
    if hasattr(PreTrainedModel, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable()
    else:
        model.gradient_checkpointing_enable()


def compile_model(model: nn.Module, backend: str | Any = "inductor") -> None:
    """Compile a model in place, after `prepare`; names of weights do not change.

    One process compiles the whole model. With several, each block is compiled on its own, so that the gradients of a
    block are reduced, or the weights of the next one gathered, while other blocks compute. Hooks of FSDP2 stay outside
    of compiled code.

    Args:
        model: as `prepare` returned it.
        backend: of `torch.compile`.

    Example:
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> model = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))
        >>> names = list(model.state_dict())
        >>> compile_model(model, backend="eager")
        >>> list(model.state_dict()) == names
        True
    """
    parallel = isinstance(model, nn.parallel.DistributedDataParallel)
    whole: Any = model.module if parallel else model
    if not parallel and not _is_sharded(model):
        whole.compile(backend=backend, dynamic=False)
        return
    blocks = [module for module in whole.modules() if _is_block(module, whole._no_split_modules)]
    settings: Any = torch._dynamo.config
    # Blocks already give their gradients one after another, and the splitting rejects recomputed activations.
    settings.optimize_ddp = False
    # All blocks of a class share their code, and those of a convolutional network differ in shape.
    settings.recompile_limit = max(settings.recompile_limit, 4 * len(blocks))
    for block in blocks:
        block.forward = torch.compile(block.forward, backend=backend, dynamic=False)


def _is_sharded(model: nn.Module) -> bool:
    if not torch.distributed.is_available():
        return False
    # Imported here: it needs a build with distributed support.
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def _is_block(module: nn.Module, names: Any) -> bool:
    # FSDP2 replaces the class of a block by a subclass with another name.
    return any(base.__name__ in names for base in type(module).__mro__)


def choose_convolutions(model: nn.Module, device: torch.device) -> bool:
    """Let cuDNN measure its algorithms for a convolutional network on clips of one size.

    The choice can differ between runs, and with it the last bits of a result. It is left out if deterministic
    algorithms are requested (`torch.use_deterministic_algorithms`, `torch.backends.cudnn.deterministic`).

    Args:
        model: the model.
        device: where it runs.

    Returns:
        Whether `torch.backends.cudnn.benchmark` was switched on.

    Example:
        >>> choose_convolutions(nn.Linear(1, 1), torch.device("cuda"))
        False
    """
    exact = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    chosen = device.type == "cuda" and isinstance(model, ConvolutionalPreTrainedModel) and not exact
    if chosen:
        torch.backends.cudnn.benchmark = True
    return chosen
