"""Training with FSDP2 as accelerate sets it up: every model, in two gloo processes, against the same run unsharded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.tensor import DTensor

from distributed import run_processes
from tiny_models import CASES, batch_of, loss_of, tiny_model

STEPS = 3
# One Auto class per network: encoders are part of both others, and pretraining has decoders, prototypes and queues.
TRAINED = [case.values for case in CASES if case.values[1] != "AutoModel"]


def shard(model: Any) -> Any:
    """What `accelerator.prepare` does to the model under training/accelerate/fsdp2.yaml; it shards on GPUs only."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
    )
    plugin.set_auto_wrap_policy(model)
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), mixed_precision="no", device=torch.device("cpu"),
        is_main_process=True,
    )  # fmt: skip
    return fsdp2_prepare_model(accelerator, model)


def train(model_type: str, auto_class: str, sharded: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of some steps, and the whole state afterwards."""
    model = tiny_model(model_type, auto_class).train()
    batch = batch_of(model, auto_class)
    if sharded:
        model = shard(model)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.05, weight_decay=0.1)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        if step == STEPS - 1:
            with torch.no_grad():  # a pass without a backward, as of an evaluation, leaves weights gathered
                model.eval()(**batch)
            model.train()
        loss = loss_of(model(**batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    state = {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
        for name, value in model.state_dict().items()
    }
    return losses, state


def both_ways(rank: int, world_size: int) -> dict[str, Any]:
    return {"-".join(case): [train(*case, sharded) for sharded in (False, True)] for case in TRAINED}


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return run_processes(both_ways, 2)


@pytest.mark.parametrize("name", ["-".join(case) for case in TRAINED])
def test_sharded_and_whole_models_learn_the_same(name: str, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        (expected, whole), (found, gathered) = run[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert len(set(expected)) == STEPS
        assert gathered.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                gathered[key], value, rtol=1e-3, atol=1e-5, msg=lambda text, k=key: f"{k} {text}"
            )


def test_what_a_forward_changes_is_stored(runs: list[dict[str, Any]]) -> None:
    """After the last step only the optimiser's own step parts the prototypes from unit norm."""
    _, state = runs[0]["sigma-AutoModelForPreTraining"][1]
    torch.testing.assert_close(state["prototypes"].norm(dim=1), torch.ones(6), rtol=0, atol=0.2)
    _, state = runs[0]["tubelet_contrast-AutoModelForPreTraining"][1]
    start = tiny_model("tubelet_contrast", "AutoModelForPreTraining").state_dict()
    moved = {name for name, value in state.items() if name.startswith("key_") and not torch.equal(value, start[name])}
    assert moved == {name for name in state if name.startswith("key_") and state[name].is_floating_point()} | {
        name for name in state if name.startswith("key_") and name.endswith("num_batches_tracked")
    }
    assert state["queue.pointer"].item() == 2 * 2 * STEPS % 8
