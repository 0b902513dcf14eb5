"""Training with FSDP2 as accelerate sets it up: every model, in two gloo processes, against the same run unsharded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch._dynamo.testing import CompileCounter
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from distributed import run_processes
from tiny_models import CASES, batch_of, loss_of, tiny_model
from tubelets.training.acceleration import compile_model, data_parallel_settings, enable_checkpointing
from tubelets.training.optimization import build_optimizer
from tubelets.training.recipe import OptimizationSection

STEPS = 3
# Encoders are part of the others, and the classifiers of these types are those of types that stay.
SAME_CLASSIFIER = ("sigma", "smile", "structured_noise_video", "tubelet_contrast")
TRAINED = [
    case
    for case in CASES
    if case[1] == "AutoModelForPreTraining" or (case[1].endswith("Classification") and case[0] not in SAME_CLASSIFIER)
]


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


def wrap(model: Any, how: str) -> Any:
    if how == "FSDP2":
        model = shard(model)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return DistributedDataParallel(model, **data_parallel_settings().to_kwargs()) if how == "DDP" else model


def train(model_type: str, auto_class: str, how: str) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of some steps, and the whole state afterwards."""
    model = tiny_model(model_type, auto_class).train()
    batch = batch_of(model, auto_class)
    model = wrap(model, how)
    optimizer = build_optimizer(model, OptimizationSection(optimizer="sgd"), 0.05, how == "FSDP2")
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


def compiled(how: str) -> tuple[list[float], list[int], list[str]]:
    """Losses of SIGMA in compiled blocks that recompute activations, compilations after each step, names of weights."""
    model = tiny_model("sigma", "AutoModelForPreTraining").train()
    batch = batch_of(model, "AutoModelForPreTraining")
    enable_checkpointing(model)
    model = wrap(model, how)
    counter = CompileCounter()
    compile_model(model, backend=counter)
    optimizer = build_optimizer(model, OptimizationSection(), 1e-2)
    losses, counts = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
        loss = loss_of(model(**batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        counts.append(counter.frame_count)
    return losses, counts, list(model.state_dict())


def both_ways(rank: int, world_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {"-".join(case): [train(*case, how) for how in ("alone", "FSDP2")] for case in TRAINED}
    return {**found, **{how: compiled(how) for how in ("DDP", "FSDP2")}}


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


def test_compiled_blocks_are_compiled_once_and_learn_the_same(runs: list[dict[str, Any]]) -> None:
    """Not once a layer or a step, with a learning rate that changes; and no name shows that the model is compiled."""
    names = list(tiny_model("sigma", "AutoModelForPreTraining").state_dict())
    for run in runs:
        (expected, counts, prefixed), (found, shard_counts, shard_names) = run["DDP"], run["FSDP2"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert expected[0] == pytest.approx(run["sigma-AutoModelForPreTraining"][0][0][0], rel=1e-5)
        # Embedding, encoder block, and the decoder's last block, which has fewer queries.
        assert counts == shard_counts == [3] * STEPS
        assert shard_names == [name.removeprefix("module.") for name in prefixed] == names
