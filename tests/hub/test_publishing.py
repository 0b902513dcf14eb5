"""The folder that is published is complete and checked, and holds nothing private."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import metadata_load
from runs import NAMES, finetuning_run, pretraining_run, save_model

from tubelets.cli.main import main
from tubelets.hub.cards import CardDetails
from tubelets.hub.finished_runs import PublishingError, RunFolder, without_private_values
from tubelets.hub.publishing import build_publication, publish, verify_publication
from tubelets.hub.results import EvaluationResult, ResultsError, read_results, results_table
from videos import make_video

DETAILS = CardDetails(license="cc-by-4.0", datasets=["tester/clips"], hardware="2 cores", limits="It is tiny.")
PUBLISHED = EvaluationResult("ucf101", "accuracy", 96.2, split="test", unit="%", source="https://arxiv.org/abs/1")


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def run_snippet(card: str, repository: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the card's snippet computes when the repository is a folder here."""
    work = folder.parent
    (work / "clip.mp4").write_bytes(make_video(30, 48, 64))
    monkeypatch.chdir(work)
    names: dict[str, Any] = {}
    exec(compile(snippets(card)[0].replace(repository, folder.name), "card", "exec"), names)
    return names["outputs"]


def test_a_finetuning_run_becomes_a_complete_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = finetuning_run(tmp_path / "run")
    publication = build_publication(
        RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/sigma-clips", DETAILS, [PUBLISHED], None, "40KB"
    )
    shards = [name for name in publication.files if re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name)]
    assert len(shards) > 1
    assert publication.files.keys() - set(shards) == {
        "README.md", "config.json", "video_preprocessor_config.json", "model.safetensors.index.json", "run.yaml",
        "all_results.json", "trainer_state.json",
    }  # fmt: skip
    metadata = metadata_load(tmp_path / "out" / "README.md")
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["datasets"] == ["tester/clips"]
    assert metadata["base_model"] == "tester/encoder"
    assert metadata["library_name"] == "tubelets"
    (index,) = metadata["model-index"]
    values = {(each["dataset"]["type"], each["metrics"][0]["type"]): each for each in index["results"]}
    assert values["tester/clips", "accuracy"]["metrics"][0]["value"] == 0.625
    assert "source" not in values["tester/clips", "accuracy"]
    assert values["ucf101", "accuracy"]["source"]["url"] == "https://arxiv.org/abs/1"
    for text in ("| tester/clips, test, 5 clips x 3 crops | top-1 accuracy | 0.625 | measured by this run |",
                 "not measured by this run", "| hardware | 2 cores |", "| seed | 4 |", "torch 2.9", "It is tiny.",
                 "| `run.yaml` |"):  # fmt: skip
        assert text in publication.card, text
    assert "hf_secret" not in (tmp_path / "out" / "run.yaml").read_text()
    outputs = run_snippet(publication.card, "tester/sigma-clips", tmp_path / "out", monkeypatch)
    assert outputs.logits.shape == (1, len(NAMES))
    again = type(model).from_pretrained(tmp_path / "out")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_pretraining_run_becomes_a_complete_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretraining_run(tmp_path / "run")
    for given in (tmp_path / "run", tmp_path / "run" / "final"):
        assert set(RunFolder.find(given).files) == {"recipe.yaml", "training_summary.json", "training_log.jsonl"}
    publication = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/sigma", DETAILS)
    assert publication.model_class == "SigmaForPreTraining"
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["data"]["path"] == "clips"
    assert recipe["run"]["output_dir"] == "run"
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".yaml", ".json", ".md", ".jsonl")
    )
    assert "| steps | 12 |" in publication.card
    assert "No evaluation has been run." in publication.card
    outputs = run_snippet(publication.card, "tester/sigma", tmp_path / "out", monkeypatch)
    assert outputs.last_hidden_state.shape == (1, 32, 32)


def test_the_card_says_what_a_run_really_did(tmp_path: Path) -> None:
    finetuning_run(tmp_path / "run")
    content = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    content["arguments"]["model"]["model_name_or_path"] = None
    content["arguments"]["training"] |= {"max_steps": 8, "num_train_epochs": 100}
    (tmp_path / "run" / "run.yaml").write_text(yaml.safe_dump(content))
    card = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS).card
    assert "Trained from random weights with" in card
    assert "Full fine-tuning" not in card
    assert "| max steps | 8 |" in card
    assert "train epochs" not in card


def test_the_model_folder_alone_is_enough_and_the_card_says_so(tmp_path: Path) -> None:
    save_model(tmp_path / "model", "SigmaModel")
    publication = build_publication(RunFolder.find(tmp_path / "model"), tmp_path / "out", "tester/x", DETAILS)
    assert "no record of how it was trained" in publication.card
    assert "No recipe was published" in publication.card
    assert "versions when published" in publication.card


@pytest.mark.parametrize(
    ("changes", "names", "said"),
    [
        ({"id2label": {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, "label2id": None}, None, "no names"),
        ({}, ["a", "b"], "2 different class names were given, the model has 3 classes"),
    ],
)
def test_class_names_are_needed(changes: dict[str, Any], names: list[str] | None, said: str, tmp_path: Path) -> None:
    finetuning_run(tmp_path / "run", **changes)
    with pytest.raises(PublishingError, match=said):
        build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "a/b", DETAILS, class_names=names)
    build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "new", "a/b", DETAILS, class_names=["x", "y", "z"])
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["id2label"] == {"0": "x", "1": "y", "2": "z"}
    assert config["label2id"] == {"x": 0, "y": 1, "z": 2}


def break_card(folder: Path, old: str, new: str) -> None:
    path = folder / "README.md"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGE = {
    "pickle": (lambda folder: (folder / "training_args.bin").write_bytes(b"x"), r"training_args\.bin"),
    "no card": (lambda folder: (folder / "README.md").unlink(), r"no README\.md"),
    "no licence": (lambda folder: break_card(folder, "license: cc-by-4.0\n", ""), "license"),
    "metadata": (lambda folder: break_card(folder, "tags:", "tags: ["), "do not parse"),
    "no snippet": (lambda folder: break_card(folder, "```python", "```"), "no Python snippet"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "does not load"),
    "cut weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"), "load"),
    "processor": (
        lambda folder: (folder / "video_preprocessor_config.json").write_text(
            (folder / "video_preprocessor_config.json").read_text().replace('"height": 32', '"height": 48')
        ),
        "does not accept the output of its processor",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_a_user_could_not_use_is_refused(kind: str, tmp_path: Path) -> None:
    finetuning_run(tmp_path / "run")
    build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)
    damage, said = DAMAGE[kind]
    damage(tmp_path / "out")
    with pytest.raises(PublishingError, match=said):
        verify_publication(tmp_path / "out")


def test_a_diverged_model_is_not_published(tmp_path: Path) -> None:
    model = finetuning_run(tmp_path / "run")
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(PublishingError, match="not finite"):
        build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)


def test_an_unfinished_run_and_a_used_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(PublishingError, match="finish the run first"):
        RunFolder.find(tmp_path / "run")
    finetuning_run(tmp_path / "run")
    with pytest.raises(PublishingError, match="not empty"):
        build_publication(RunFolder.find(tmp_path / "run"), tmp_path, "tester/x", DETAILS)
    publication = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)
    with pytest.raises(PublishingError, match="cannot be tagged"):
        publish(publication, "tester/x", create_pr=True, tag="v1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ('{"dataset": "a"}', "list of results, got dict"),
        ('["a"]', "entry 0 must be an object"),
        ('[{"dataset": "a", "metric": "b"}]', r"lacks \['value'\]"),
        ('[{"dataset": "a", "metric": "b", "value": 1, "split_name": "x"}]', "split_name"),
        ('[{"dataset": "a", "metric": "b", "value": "0.5"}]', "finite number, got '0.5'"),
        ('[{"dataset": "a", "metric": "b", "value": NaN}]', "finite number"),
        ('[{"dataset": "a", "metric": "b", "value": true}]', "finite number"),
        ('[{"dataset": 3, "metric": "b", "value": 1}]', "dataset must be text"),
    ],
)
def test_results_that_do_not_follow_the_schema(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError, match=said):
        read_results([tmp_path / "results.json"])


def test_results_are_read_once_and_tabulated(tmp_path: Path) -> None:
    entries = [{"dataset": "a", "metric": "m", "value": 1, "source": "a colleague"}] * 2
    (tmp_path / "results.json").write_text(json.dumps(entries))
    (result,) = read_results([tmp_path / "results.json"])
    assert "| a | m | 1 | a colleague; not measured by this run |" in results_table([result])
    assert result.for_hub().source_name is None
    with pytest.raises(FileNotFoundError, match="absent"):
        read_results([tmp_path / "absent.json"])


def test_private_values_are_left_out_everywhere() -> None:
    content = {"a": [{"api_key": "x", "path": "C:\\data\\clips"}], "token": None, "b": "relative/path", "n": 3}
    assert without_private_values(content) == {
        "a": [{"api_key": None, "path": "clips"}],
        "token": None,
        "b": "relative/path",
        "n": 3,
    }


def test_a_dry_run_shows_the_files_and_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finetuning_run(tmp_path / "run")
    words = [
        "push",
        str(tmp_path / "run"),
        "tester/x",
        "--license",
        "mit",
        "--dry-run",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "model.safetensors" in out
    assert "license: mit" in out
    assert "nothing was pushed" in out
    assert (tmp_path / "out" / "README.md").is_file()
    assert main(["push", str(tmp_path / "nothing"), "tester/x", "--license", "mit"]) == 2
