import io
import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tqdm import tqdm

from tubelets.training.run_log import BatchProgress, TrainingLog, read_log, scalar_outputs


def write(path: Path, start_step: int, values: list[float]) -> None:
    log = TrainingLog(Accelerator(cpu=True), path, start_step, total_steps=10)
    for offset, value in enumerate(values):
        log.micro_batch({"loss": torch.tensor(value), "logits": torch.zeros(3)}, num_clips=2)
        log.step()
        log.write(start_step + offset + 1, {"epoch": 1.0})
    log.close()


def test_lines_after_the_checkpoint_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, 0, [1.0, 2.0, 3.0])
    write(path, 2, [30.0, 40.0])
    assert [(line["step"], line["loss"]) for line in read_log(path)] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_log(path) == [{"step": 1}]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 of 3 is damaged"):
        read_log(tmp_path / "log.jsonl")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        write(tmp_path / "log.jsonl", 0, [float("nan")])


def test_skipped_videos_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = TrainingLog(Accelerator(cpu=True), tmp_path / "log.jsonl", 0, 10)
    bad = [{"shard": "a.parquet", "clip_id": "x", "reason": "truncated"}]
    for _ in range(3):
        log.bad_samples(bad, num_skipped=2)
    assert caplog.text.count("skipped x in a.parquet: truncated") == 1
    log.micro_batch({"loss": torch.tensor(1.0)}, 1)
    assert log.write(1, {})["skipped_videos"] == 2
    log.close()


def test_only_scalars_are_logged() -> None:
    output = {"loss": torch.tensor(1.0, requires_grad=True), "logits": torch.zeros(2), "hidden_states": None}
    assert set(scalar_outputs(output)) == {"loss"}
    assert not scalar_outputs(output)["loss"].requires_grad


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)], ids=["terminal", "file"])
def test_batches_of_a_step_move_the_bar_of_a_terminal_only(stream: type[io.StringIO], shown: bool) -> None:
    output = stream()
    bar = tqdm(total=2, desc="pretraining", file=output, mininterval=0, miniters=1)
    progress = BatchProgress(bar, batches=8)
    for _ in range(3):
        progress.batch()
    assert ("pretraining, batch 1/8: " in output.getvalue()) == shown
    progress.step()
    bar.update()
    assert "batch" not in output.getvalue().rpartition("\r")[2]
