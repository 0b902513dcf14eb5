"""The real client against a Hub on loopback: publish, load in new processes, publish again, break the connection."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_shards import CLASS_NAMES, clip_rows, video_bytes, write_parquet
from hub_server import HubServer
from runs import NAMES, finetuning_run
from safetensors.torch import load_file, save_file

from tubelets.masking import NoiseMaskGenerator

# Several publications in one process, which must not wait between its attempts; prints their exit codes and messages.
PUBLISH = """
import contextlib, io, json, sys, time
time.sleep = lambda seconds: None
from tubelets.cli.main import main
done = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["push", *words])
    done.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(done))
"""


def client(server: HubServer, home: Path, *words: str, offline: bool = False, **extra: str) -> Any:
    """Run Python with this Hub; its result."""
    environment = {**os.environ, **server.environment(home, offline), **extra}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=240
    )


def answer(done: Any) -> Any:
    """What a client printed last, as JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = finetuning_run(folder)
    clip = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        save_file({"clip": clip, "logits": model(clip).logits}, folder.parent / "expected.safetensors")
    return folder


LOAD = """
import json, sys
import torch, tubelets
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForVideoClassification, AutoVideoProcessor
stored = load_file(sys.argv[1])
model = AutoModelForVideoClassification.from_pretrained("tester/sigma")
processor = AutoVideoProcessor.from_pretrained("tester/sigma")
with torch.no_grad():
    difference = float((model(stored["clip"]).logits - stored["logits"]).abs().max())
pixels = processor(torch.zeros(4, 3, 40, 48, dtype=torch.uint8), return_tensors="pt").pixel_values
print(json.dumps({
    "class": type(model).__name__, "difference": difference, "labels": list(model.config.id2label.values()),
    "pixels": list(pixels.shape),
}))
"""

AGAIN = """
import json
import torch, tubelets
from huggingface_hub import HfApi
from tubelets import SigmaForVideoClassification
api = HfApi()
model = SigmaForVideoClassification.from_pretrained("tester/sigma", revision="v1")
with torch.no_grad():
    model.classifier.bias.add_(1)
model.push_to_hub("tester/sigma", commit_message="Second version")
new, old = (SigmaForVideoClassification.from_pretrained("tester/sigma", revision=name) for name in ("main", "v1"))
model.push_to_hub("tester/sigma", create_pr=True, commit_message="A proposal")
model.push_to_hub("tester/secret", private=True)
tubelets.video_processor(model.config).push_to_hub("tester/secret")
refs = api.list_repo_refs("tester/sigma", include_pull_requests=True)
print(json.dumps({
    "moved": float((new.classifier.bias - old.classifier.bias).mean()),
    "tags": [tag.name for tag in refs.tags], "proposals": [each.ref for each in refs.pull_requests],
    "files": api.list_repo_files("tester/sigma", revision="v1"),
    "private": [api.model_info("tester/secret").private, api.model_info("tester/sigma").private],
    "card": "sigma" in api.hf_hub_download("tester/sigma", "README.md"),
}))
"""

STRANGER = """
import json
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
found = {}
for name in ("tester/secret", "tester/sigma"):
    try:
        found[name] = len(HfApi().list_repo_files(name, token=False))
    except RepositoryNotFoundError:
        found[name] = "hidden"
print(json.dumps(found))
"""


def test_publish_load_publish_again_and_load_offline(run: Path, server: HubServer, tmp_path: Path) -> None:
    expected = str(run.parent / "expected.safetensors")
    words = [str(run), "tester/sigma", "--license", "cc-by-4.0", "--tag", "v1", "--max-shard-size", "60KB"]
    done = client(server, tmp_path / "author", "-m", "tubelets", "push", *words)
    assert done.returncode == 0, done.stderr
    assert "/tester/sigma/commit/" in done.stdout.splitlines()[-1]
    repo = server.repos["models", "tester/sigma"]
    assert repo.messages == ["initial commit", "Publish SigmaForVideoClassification"]
    assert repo.refs["refs/tags/v1"] == repo.refs["refs/heads/main"]
    first = set(repo.files("v1"))
    assert {"README.md", "config.json", "run.yaml", "model-00001-of-00002.safetensors"} <= first

    found = answer(client(server, tmp_path / "user", "-c", LOAD, expected))
    assert found == {
        "class": "SigmaForVideoClassification", "difference": 0.0, "labels": NAMES, "pixels": [1, 4, 3, 32, 32]
    }  # fmt: skip
    before = len(server.requests)
    assert answer(client(server, tmp_path / "user", "-c", LOAD, expected, offline=True)) == found
    assert len(server.requests) == before

    found = answer(client(server, tmp_path / "author", "-c", AGAIN))
    assert found["moved"] == pytest.approx(1)
    assert found["tags"] == ["v1"]
    assert found["proposals"] == ["refs/pr/1"]
    assert set(found["files"]) == first
    assert found["private"] == [True, False]
    assert repo.messages[2:] == ["Second version", "A proposal"]
    assert repo.files("refs/pr/1").keys() == repo.files("main").keys()
    found = answer(client(server, tmp_path / "stranger", "-c", STRANGER, HF_TOKEN="hf_other"))
    assert found["tester/secret"] == "hidden"
    assert found["tester/sigma"] > 5


def publish(server: HubServer, home: Path, *commands: list[str]) -> list[Any]:
    """Run `tubelets push` with several words one after the other."""
    return answer(client(server, home, "-c", PUBLISH, json.dumps(commands)))


def test_a_second_publication_removes_old_shards_and_takes_no_tag_twice(
    run: Path, server: HubServer, tmp_path: Path
) -> None:
    words = [str(run), "tester/sigma", "--license", "mit"]
    first, refused, branch, proposed = publish(
        server,
        tmp_path,
        [*words, "--max-shard-size", "60KB", "--tag", "v1"],
        [*words, "--tag", "v1"],
        [*words, "--revision", "next"],
        [*words, "--create-pr"],
    )
    assert [each["code"] for each in (first, refused, branch, proposed)] == [0, 2, 0, 0]
    assert "already has a tag 'v1'" in refused["err"]
    repo = server.repos["models", "tester/sigma"]
    assert len(repo.commits) == 4
    assert {name for name in repo.files("next") if name.endswith(".safetensors")} == {"model.safetensors"}
    assert "model.safetensors.index.json" not in repo.files("next")
    assert ".gitattributes" in repo.files("next")
    assert b'revision="next"' in repo.files("next")["README.md"]
    assert "model-00001-of-00002.safetensors" in repo.files("main")
    assert "/discussions/1" in proposed["out"].splitlines()[-1]
    assert "model.safetensors" in repo.files("refs/pr/1")


@pytest.mark.parametrize("place", ["upload", "commit"])
def test_a_broken_connection_publishes_nothing(place: str, run: Path, server: HubServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    values = load_file(other / "model.safetensors")
    save_file({name: value + 1 for name, value in values.items()}, other / "model.safetensors", {"format": "pt"})
    attempts: list[list[str]] = []

    def cut(method: str, path: str) -> bool:
        """Break every attempt but the first, until the client gave up; what is on the Hub then is kept."""
        if not (method == "PUT" if place == "upload" else "/commit/" in path):
            return False
        attempts.append(list(server.repos["models", "tester/sigma"].messages))
        # An upload is tried six times. The seventh is a hiccup that the client gets over.
        return len(attempts) in (range(2, 9) if place == "upload" else [2])

    server.cut = cut
    publications = [[str(folder), "tester/sigma", "--license", "mit"] for folder in (run, other, other)]
    first, broken, again = publish(server, tmp_path, *publications)
    assert [first["code"], broken["code"], again["code"]] == [0, 2, 0]
    assert "was not published" in broken["err"]
    assert len(attempts) == (9 if place == "upload" else 3)
    # Until the last attempt the Hub had the first publication and nothing else.
    assert attempts[1:] == [["initial commit", "Publish SigmaForVideoClassification"]] * (len(attempts) - 1)
    repo = server.repos["models", "tester/sigma"]
    assert len(repo.commits) == 3
    assert repo.files()["model.safetensors"] != run.joinpath("model.safetensors").read_bytes()


STREAM = """
import json
from tubelets.data.sources.opening import open_source
source = open_source("tester/clips")
rows = [row for shard in range(source.num_shards) for row in source.iterate_shard(shard)]
print(json.dumps({
    "ids": [row.clip_id for row in rows], "classes": source.class_names, "labels": [row.label for row in rows],
    "bytes": [len(source.read_bytes(row)) for row in rows],
}))
"""


def test_our_shards_stream_from_a_data_set_of_the_hub(server: HubServer, tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", clip_rows(5), [3, 2])
    upload = "import sys; from huggingface_hub import HfApi; api = HfApi(); "
    upload += "api.create_repo('tester/clips', repo_type='dataset'); "
    upload += "api.upload_folder(repo_id='tester/clips', repo_type='dataset', folder_path=sys.argv[1])"
    done = client(server, tmp_path / "author", "-c", upload, str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    found = answer(client(server, tmp_path / "user", "-c", STREAM))
    assert found["ids"] == [f"clip-{number:03d}" for number in range(5)]
    assert found["classes"] == CLASS_NAMES
    assert found["labels"] == [0, 1, 2, 0, 1]
    assert found["bytes"] == [len(video_bytes(number)) for number in range(5)]


def test_a_hostile_index_on_the_hub_is_refused(run: Path, server: HubServer, tmp_path: Path) -> None:
    (done,) = publish(server, tmp_path, [str(run), "tester/sigma", "--license", "mit"])
    assert done["code"] == 0
    repo = server.repos["models", "tester/sigma"]
    index = {"metadata": {}, "weight_map": {"classifier.bias": "../../../stolen.safetensors"}}
    files = {name: data for name, data in repo.files().items() if name != "model.safetensors"}
    repo.commit({**files, "model.safetensors.index.json": json.dumps(index).encode()}, "hostile", "refs/heads/main")
    done = client(server, tmp_path / "user", "-c", LOAD, str(run.parent / "expected.safetensors"))
    assert done.returncode != 0
    assert "UnsafeCheckpointError" in done.stderr
    assert not any("stolen" in request for request in server.requests)


def test_a_bank_of_masks_is_pushed_and_read_in_a_new_process(server: HubServer, tmp_path: Path) -> None:
    sizes = ("--bank-size", "2", "--volume-shape", "4", "8", "8", "--grid", "2", "4", "4", "--mask-ratio", "0.5")
    words = ("masks", "green3d", "--output_dir", str(tmp_path / "b"), *sizes, "--push-to", "tester/bank")
    done = client(server, tmp_path / "home", "-m", "tubelets", *words)
    assert done.returncode == 0, done.stderr
    assert set(server.repos["datasets", "tester/bank"].files()) >= {"mask_bank.safetensors", "README.md"}
    code = (
        "import json, torch; from tubelets.models.common.mask_banks import load_mask_bank; "
        "masks = load_mask_bank('tester/bank', (2, 4, 4), 0.5)(3, generator=torch.Generator().manual_seed(0)); "
        "print(json.dumps(masks.int().tolist()))"
    )
    masks = answer(client(server, tmp_path / "home2", "-c", code))
    drawn = NoiseMaskGenerator("green3d", (2, 4, 4), 0.5, bank_size=2, volume_shape=(4, 8, 8))
    assert masks == drawn(3, generator=torch.Generator().manual_seed(0)).int().tolist()
    # Offline, the cache serves it.
    assert answer(client(server, tmp_path / "home2", "-c", code, offline=True)) == masks
