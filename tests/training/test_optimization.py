import pytest
import torch
from torch import nn

from tubelets import SigmaConfig, SigmaForPreTraining
from tubelets.training.optimization import Schedule, parameter_groups, plan_run
from tubelets.training.recipe import OptimizationSection


def test_schedule_warms_up_to_the_full_rate_and_ends_above_the_minimum() -> None:
    schedule = Schedule(1.0, 0.1, warmup_steps=5, total_steps=20)
    rates = [schedule(step) for step in range(20)]
    assert rates[0] == 0.0
    assert rates[4] == rates[5] == 1.0
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0.1 < rates[-1] < 0.12
    assert schedule(20) == pytest.approx(0.1)


def test_plan_scales_rates_by_the_global_batch() -> None:
    optimization = OptimizationSection(epochs=10, global_batch_size=512, warmup_epochs=2)
    plan = plan_run(optimization, clips_per_epoch=5500, batch_size=16, num_processes=8)
    assert (plan.steps_per_epoch, plan.total_steps, plan.accumulation) == (10, 100, 4)
    assert plan.schedule == Schedule(3.0e-4, 2.0e-5, 20, 100)


@pytest.mark.parametrize(
    ("clips", "batch_size", "message"),
    [(1000, 3, "must be a multiple"), (100, 8, "fewer than optimization.global_batch_size=128")],
)
def test_impossible_batches_are_refused(clips: int, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_run(OptimizationSection(global_batch_size=128), clips, batch_size, num_processes=1)


def test_vectors_biases_and_mask_tokens_are_not_decayed() -> None:
    config = SigmaConfig(
        image_size=32, num_frames=4, hidden_size=24, num_attention_heads=2, num_hidden_layers=1, intermediate_size=24,
        decoder_hidden_size=24, decoder_num_attention_heads=2, decoder_num_hidden_layers=1, num_prototypes=4,
    )  # fmt: skip
    model = SigmaForPreTraining(config)
    model.decoder.head.requires_grad_(False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = ({names[id(entry)] for entry in group["params"]} for group in parameter_groups(model, 0.05))
    assert "prototypes" in decayed
    assert "mask_token" in plain
    assert all(name.endswith("weight") or name == "prototypes" for name in decayed)
    assert decayed | plain == {name for name in names.values() if not name.startswith("decoder.head")}


def test_groups_train() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(parameter_groups(layer, 0.5), lr=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
