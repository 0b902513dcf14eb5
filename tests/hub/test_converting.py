"""Authors' files become checkpoints: strict, checked by converting back, and other files are told apart with advice."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer, Repo
from safetensors.torch import save_file
from transformers import AutoModelForPreTraining, AutoVideoProcessor

from tiny_models import tiny_config
from tubelets.hub import converting
from tubelets.hub.author_cards import author_checkpoints
from tubelets.hub.converting import ConversionError, check_is_weights, convert, describe
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.official import find_layout, official_layouts
from tubelets.models.methods.sigma.conversion_sigma import to_official
from tubelets.models.methods.sigma.modeling_sigma import SigmaForPreTraining

NAME = "sigma-mlp-vit-base-k400"


def tiny_sigma() -> SigmaForPreTraining:
    torch.manual_seed(0)
    return SigmaForPreTraining(tiny_config("sigma"))


def official_file(folder: Path, model: SigmaForPreTraining, **others: Any) -> Path:
    path = folder / "official.pth"
    torch.save({"model": to_official(model), "args": argparse.Namespace(), "epoch": 3, **others}, path)
    return path


@pytest.fixture
def tiny_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known checkpoints, one of them with a tiny network."""
    known = author_checkpoints()
    config = tiny_sigma().config
    config.architectures = ["SigmaForPreTraining"]
    small = dataclasses.replace(known[NAME], make_config=lambda: config, download="hf://authors/weights/a/b.pth")
    monkeypatch.setattr(converting, "author_checkpoints", lambda: {**known, NAME: small})


def test_a_file_becomes_a_checkpoint_with_the_same_weights(tmp_path: Path) -> None:
    model = tiny_sigma()
    done = convert(str(official_file(tmp_path, model)), tmp_path / "ours")
    assert (done.model_class, done.layout, done.left_out) == ("SigmaForPreTraining", "SIGMA", 0)
    assert done.weights == len(to_official(model))
    again = AutoModelForPreTraining.from_pretrained(tmp_path / "ours")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert AutoVideoProcessor.from_pretrained(tmp_path / "ours").crop_size["height"] == again.config.image_size
    card = (tmp_path / "ours" / "README.md").read_text(encoding="utf-8")
    assert "To be completed by the author" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official.pth", "ours"]


@pytest.mark.usefixtures("tiny_records")
def test_a_known_name_adds_what_weights_do_not_show(tmp_path: Path) -> None:
    convert(str(official_file(tmp_path, tiny_sigma())), tmp_path / "ours", name=NAME)
    config = json.loads((tmp_path / "ours" / "config.json").read_text(encoding="utf-8"))
    assert config["projection_hidden_sizes"] == [20]
    card = (tmp_path / "ours" / "README.md").read_text(encoding="utf-8")
    assert "The authors' weights (Hub repository `SMSD75/SIGMA`), converted" in card
    assert "This folder has the configuration" not in card


FETCH = """
import dataclasses, json, sys
sys.path[:0] = json.loads(sys.argv[1])
from tubelets.hub import converting
from test_converting import NAME, tiny_sigma
known = converting.author_checkpoints()
config = tiny_sigma().config
config.architectures = ["SigmaForPreTraining"]
small = dataclasses.replace(known[NAME], make_config=lambda: config, download="hf://authors/weights/a/b.pth")
converting.author_checkpoints = lambda: {**known, NAME: small}
for what in sys.argv[3:]:
    try:
        print(converting.convert(what, sys.argv[2] + "/" + what.rpartition("/")[2]).model_class)
    except converting.ConversionError as error:
        print(error)
"""


def test_weights_are_fetched_from_a_hub(tmp_path: Path) -> None:
    content = official_file(tmp_path, tiny_sigma()).read_bytes()
    here = Path(__file__).resolve().parent
    with HubServer() as server:
        repository = Repo()
        repository.commit({"a/b.pth": content, "README.md": b"# weights"}, "first", "refs/heads/main")
        server.repos["models", "authors/weights"] = repository
        words = [json.dumps([str(here), str(here.parent)]), str(tmp_path), NAME]
        words += ["hf://authors/weights/a/b.pth", "hf://authors/weights/c.pth", "hf://nobody/x/c.pth"]
        environment = {**os.environ, **server.environment(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, *words], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    named, addressed, absent, nowhere = done.stdout.splitlines()
    assert named == addressed == "SigmaForPreTraining"
    assert "hf://authors/weights/c.pth cannot be fetched" in absent
    assert absent.endswith("; weight files of authors/weights are a/b.pth")
    assert "hf://nobody/x/c.pth cannot be fetched" in nowhere


def page(folder: Path) -> Path:
    (folder / "weights.pth").write_text("  <!DOCTYPE html><html><body>Sign in</body></html>")
    return folder / "weights.pth"


def pointer(folder: Path) -> Path:
    (folder / "weights.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    return folder / "weights.pth"


def archive(folder: Path) -> Path:
    (folder / "note.txt").write_text("x")
    with tarfile.open(folder / "weights.pth.tar", "w") as tar:
        tar.add(folder / "note.txt", "note.txt")
    return folder / "weights.pth.tar"


def ours(folder: Path) -> Path:
    tiny_sigma().save_pretrained(folder / "saved")
    return folder / "saved"


def our_file(folder: Path) -> Path:
    return ours(folder) / "model.safetensors"


def stock(folder: Path) -> Path:
    (folder / "stock").mkdir()
    (folder / "stock" / "config.json").write_text('{"model_type": "timesformer"}')
    return folder / "stock"


def stock_file(folder: Path) -> Path:
    save_file({"timesformer.embeddings.cls_token": torch.zeros(1)}, folder / "model.safetensors")
    return folder / "model.safetensors"


def empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (page, "is a web page, not weights"),
        (pointer, "run `git lfs pull`"),
        (archive, "unpack it and give the .pth file"),
        (ours, "is a checkpoint of this package already \\(sigma\\); load it with from_pretrained"),
        (our_file, "holds weights of this package or of transformers"),
        (stock, "is a timesformer of transformers, which needs no conversion"),
        (stock_file, "holds weights of a stock model of transformers"),
        (empty_folder, "is a folder without config.json"),
    ],
)
def test_other_files_are_told_apart(make: Any, advice: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=advice):
        convert(str(make(tmp_path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_names_and_unknown_addresses_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="neither a file nor a known checkpoint; `tubelets list`"):
        convert("sigma-huge", tmp_path / "out")
    with pytest.raises(ConversionError, match=r"convert FILE --output_dir FOLDER --name moco-r2plus1d-18"):
        convert("moco-r2plus1d-18-k400", tmp_path / "out")
    with pytest.raises(ConversionError, match="is not hf://owner/name/path"):
        convert("hf://weights.pth", tmp_path / "out")
    with pytest.raises(ConversionError, match="'x' is not a known checkpoint"):
        convert(str(official_file(tmp_path, tiny_sigma())), tmp_path / "out", name="x")


def test_nothing_is_written_where_something_is_or_weights_do_not_fit(tmp_path: Path) -> None:
    model = tiny_sigma()
    path = official_file(tmp_path, model)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty; give a new folder"):
        convert(str(path), tmp_path / "full")
    weights = to_official(model)
    del weights["encoder.norm.weight"]
    torch.save({"model": weights}, path)
    with pytest.raises(CheckpointLayoutError, match=r"layernorm|norm"):
        convert(str(path), tmp_path / "out")
    torch.save({"model": to_official(model), "args": Path}, path)
    with pytest.raises(UnsafeCheckpointError, match="was not loaded"):
        convert(str(path), tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "official.pth"]


def test_a_weight_that_changes_on_the_way_is_noticed() -> None:
    model = tiny_sigma()
    weights = to_official(model)
    layout = find_layout(weights, "here")
    assert layout.check_round_trip(model, weights | {"momentum.weight": torch.zeros(1)}) == 1
    changed = {name: value.clone() for name, value in weights.items()}
    changed["encoder.norm.weight"][0] += 1e-6
    with pytest.raises(CheckpointLayoutError, match=r"encoder.norm.weight is not the same after conversion and back"):
        layout.check_round_trip(model, changed)
    with pytest.raises(CheckpointLayoutError, match="which the official weights do not have"):
        layout.check_round_trip(model, {name: value for name, value in weights.items() if name != "mask_token"})


def test_every_known_checkpoint_is_described_and_has_a_layout() -> None:
    rows = [describe(each) for each in author_checkpoints().values()]
    assert len({row["name"] for row in rows}) == len(rows) >= 37
    types = {layout.name for layout in official_layouts()}
    assert types
    for row in rows:
        assert row["weights"]
        assert row["data"]
        assert row["paper"].startswith("https://arxiv.org/abs/")
        assert row["download"] is None or row["download"].startswith(("hf://", "https://"))
    check_is_weights(Path(__file__))  # text that is none of these is left to the reader of weights


def test_push_to_hub_publishes_our_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, str] = {}

    def commit(self: Any, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> None:
        sent[repo_id] = (Path(working_dir) / "README.md").read_text(encoding="utf-8")

    monkeypatch.setattr("transformers.utils.hub.PushToHubMixin._upload_modified_files", commit)
    model = tiny_sigma()
    (tmp_path / "README.md").write_text("# mine\n")
    model._upload_modified_files(tmp_path, "me/kept")
    assert sent["me/kept"] == "# mine\n"
    (tmp_path / "README.md").write_text("This model card has been automatically generated.")
    model._upload_modified_files(tmp_path, "me/new")
    assert "library_name: tubelets" in sent["me/new"]
    assert 'AutoModel.from_pretrained("me/new")' in sent["me/new"]
