"""`tubelets pretrain` in several processes, as `accelerate launch -m tubelets pretrain` starts it."""

import json
from pathlib import Path

from pretraining import command, losses, make_clip_shards

from preloaded import run_script


def test_two_processes_train_together_and_a_copied_script_does_the_same(tmp_path: Path) -> None:
    shards = make_clip_shards(tmp_path)
    seen = {}
    for name, program in {"verb": ["tubelets", "pretrain"], "script": None}.items():
        output = tmp_path / name
        script, _, *flags = command(shards, output, run__batch_size=2, data__num_workers=0, optimization__max_steps=2)
        words = [*(program or [script]), "sigma_tiny_demo", *flags]
        done = run_script(*words, folder=tmp_path, world_size=2)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads((output / "final" / "training_summary.json").read_text())["processes"] == 2
        seen[name] = losses(output)
    assert seen["verb"] == seen["script"]
    refused = run_script("tubelets", "pretrain", "sigma_tiny_demo", "--run.sead", "1", world_size=2)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "did you mean 'seed'?" in refused.stderr
