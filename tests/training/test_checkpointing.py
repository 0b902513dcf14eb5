import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, load
from torch import nn

from tubelets.training.checkpointing import (
    CheckpointError,
    describe_files,
    list_checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Accelerator, nn.Module, Path]:
    accelerator = Accelerator(cpu=True, project_config=ProjectConfiguration(project_dir=str(tmp_path)))
    model = nn.Linear(3, 3)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    for step in (1, 2, 10):
        with torch.no_grad():
            model.weight.fill_(step)
        save_checkpoint(accelerator, tmp_path, {"step": step}, {"position": step}, keep=2)
    return accelerator, model, tmp_path


def test_newest_are_kept_in_numerical_order(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    _, _, folder = trained
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-2", "checkpoint-10"]


def test_state_comes_back(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, model, folder = trained
    state, position = load_checkpoint(accelerator, folder / "checkpoint-2")
    assert state["step"] == 2
    assert position == {"position": 2}
    assert torch.equal(model.weight, torch.full((3, 3), 2.0))


def test_a_damaged_checkpoint_is_named(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    weights = folder / "checkpoint-10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"model\.safetensors should have"):
        load_checkpoint(accelerator, folder / "checkpoint-10")
    weights.unlink()
    with pytest.raises(CheckpointError, match="has none"):
        read_state(folder / "checkpoint-10")


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl", "model.safetensors"])
def test_a_file_that_cannot_be_read_is_named(name: str, trained: tuple[Accelerator, nn.Module, Path]) -> None:
    """Of the right size, so that only its content gives it away."""
    accelerator, _, folder = trained
    file = folder / "checkpoint-10" / name
    file.write_bytes(b"x" * file.stat().st_size)
    rewrite_state(folder / "checkpoint-10")
    with pytest.raises(CheckpointError, match=rf"checkpoint-10/{name} is corrupt.*remove .*checkpoint-10 to resume"):
        load_checkpoint(accelerator, folder / "checkpoint-10")


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl", "model.safetensors", "loader_0.json"])
def test_a_damaged_stretch_is_found_by_its_checksum(name: str, trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    file = folder / "checkpoint-10" / name
    content = bytearray(file.read_bytes())
    content[-8:] = bytes(8)
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"checkpoint-10/{name} is damaged: .* remove .*checkpoint-10 to resume"):
        load_checkpoint(accelerator, folder / "checkpoint-10")


def test_an_optimiser_of_another_network_is_named(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    other = torch.optim.AdamW([nn.Parameter(torch.zeros(2)) for _ in range(5)])
    torch.save(other.state_dict(), folder / "checkpoint-10" / "optimizer.bin")
    rewrite_state(folder / "checkpoint-10")
    with pytest.raises(CheckpointError, match=r"checkpoint-10/optimizer\.bin does not fit this run"):
        load_checkpoint(accelerator, folder / "checkpoint-10")


@pytest.mark.parametrize("name", ["training_state.json", "loader_0.json"])
def test_a_text_that_cannot_be_read_is_named(name: str, trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    (folder / "checkpoint-10" / name).write_bytes(b"{" + bytes(40))
    if name == "loader_0.json":
        rewrite_state(folder / "checkpoint-10")
    with pytest.raises(CheckpointError, match=rf"checkpoint-10/{name} cannot be read"):
        load_checkpoint(accelerator, folder / "checkpoint-10")


def test_an_interrupted_save_leaves_the_older_checkpoints(
    trained: tuple[Accelerator, nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator, _, folder = trained

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tubelets.training.checkpointing._flush", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(accelerator, folder, {"step": 11}, {}, keep=1)
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-2", "checkpoint-10"]


def test_a_folder_without_state_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_state(tmp_path)


def test_another_number_of_processes_is_refused(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    path = folder / "checkpoint-10" / "training_state.json"
    path.write_text(path.read_text().replace('"num_processes": 1', '"num_processes": 4'))
    with pytest.raises(CheckpointError, match="4 processes"):
        load_checkpoint(accelerator, folder / "checkpoint-10")


def test_a_checkpoint_of_another_device_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a GPU writes it: storages marked as its own, and random states of a device that is absent here."""
    accelerator = Accelerator(cpu=True, project_config=ProjectConfiguration(project_dir=str(tmp_path)))
    model = nn.Linear(3, 3)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), fused=True))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    moments = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        folder = save_checkpoint(accelerator, tmp_path, {"step": 1}, {}, keep=1)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(folder / "optimizer.bin", weights_only=True)
    states = folder / "random_states_0.pkl"
    content = load(states, map_location="cpu")
    torch.save({**content, "torch_cuda_manual_seed": [torch.zeros(16, dtype=torch.uint8)]}, states)
    rewrite_state(folder, device="cuda")
    expected = torch.rand(3)
    torch.manual_seed(7)
    optimizer.step()
    load_checkpoint(accelerator, folder)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moments)
    assert "was written on cuda and this run is on cpu" in caplog.text


def test_a_checkpoint_without_random_states_is_named(trained: tuple[Accelerator, nn.Module, Path]) -> None:
    accelerator, _, folder = trained
    newest = folder / "checkpoint-10"
    content = load(newest / "random_states_0.pkl", map_location="cpu")
    del content["torch_manual_seed"]
    torch.save(content, newest / "random_states_0.pkl")
    rewrite_state(newest)
    with pytest.raises(CheckpointError, match=r"random_states_0\.pkl lacks torch_manual_seed"):
        load_checkpoint(accelerator, newest)


def rewrite_state(folder: Path, **changes: str) -> None:
    """Adapt the record of a checkpoint to its changed files."""
    path = folder / "training_state.json"
    content = json.loads(path.read_text())
    content["files"] = describe_files(folder, [folder / name for name in content["files"]])
    path.write_text(json.dumps({**content, **changes}))
