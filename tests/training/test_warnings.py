"""Two processes train without deprecated calls of ours."""

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from distributed import run_processes
from tiny_models import batch_of, loss_of, tiny_config
from tubelets import TubeletContrastForPreTraining
from tubelets.objectives import symmetric_nce
from tubelets.training.acceleration import data_parallel_settings, enable_checkpointing, keep_own_buffers


def train(rank: int, world_size: int) -> dict[str, Any]:
    warnings.simplefilter("error", FutureWarning)
    warnings.simplefilter("error", DeprecationWarning)
    # Raised inside of PyTorch for its own calls, so we cannot fix it.
    warnings.filterwarnings("ignore", module=r"torch\._dynamo.*")
    for key_encoder in ("momentum", "shared"):
        torch.manual_seed(0)
        model = TubeletContrastForPreTraining(tiny_config("tubelet_contrast", key_encoder=key_encoder))
        enable_checkpointing(model)
        batch = batch_of(model, "AutoModelForPreTraining")
        wrapped = DistributedDataParallel(model.train(), **data_parallel_settings().to_kwargs())
        keep_own_buffers(wrapped)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss_of(wrapped(**batch)).backward()
        optimizer.step()
    assert wrapped.gradient_as_bucket_view
    assert not wrapped.broadcast_buffers
    # The gradient of a loss over the batches of all processes: that of each process's own share.
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).unbind()
    first.requires_grad_()
    share = slice(2 * rank, 2 * rank + 2)
    gathered = torch.autograd.grad(symmetric_nce(first[share], second[share], 0.5)[0], first)[0][share]
    return {"gathered": gathered, "rank": rank, "size": dist.get_world_size()}


def test_two_processes_train_without_deprecated_calls() -> None:
    found = run_processes(train, 2)
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).unbind()
    first.requires_grad_()
    (whole,) = torch.autograd.grad(symmetric_nce(first, second, 0.5)[0], first)
    for result in found:
        # Both processes compute the loss of the whole batch, whose gradients add up.
        share = slice(2 * result["rank"], 2 * result["rank"] + 2)
        torch.testing.assert_close(result["gathered"], 2 * whole[share], rtol=1e-4, atol=1e-6)
