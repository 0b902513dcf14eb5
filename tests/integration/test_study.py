"""A study on a benchmark of synthetic videos, with networks so small that a step takes no time."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from tubelets import shipped
from tubelets.benchmarks.camera_motion import SourceVideo, build_camera_motion
from tubelets.cli.main import main
from tubelets.data.modalities.video import encode_video
from tubelets.evaluation import studies
from tubelets.evaluation.studies import load_study, stages
from tubelets.evaluation.study_reports import summarize

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "training" / "studies").glob("*.yaml"))


def small_benchmark(output_dir, num_clips):
    sources = {}
    for number, split in enumerate(num_clips):
        picture = torch.randint(256, (1, 3, 10, 14), generator=torch.Generator().manual_seed(number)).float()
        clip = torch.nn.functional.interpolate(picture, scale_factor=8, mode="bilinear").to(torch.uint8)
        path = Path(output_dir).parent / f"{split}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_video(clip.expand(20, -1, -1, -1).contiguous()))
        sources[split] = [SourceVideo(split, path)]
    return build_camera_motion(output_dir, sources, num_clips=num_clips, size=32, progress=False)


def small_study(path):
    """The published study with everything small."""
    content = yaml.safe_load((ROOT / "training/studies/masked_pixels.yaml").read_text())
    content["benchmarks"] = {"camera_motion": {"num_clips": {"train": 32, "test": 16}}}
    recipe = content["methods"]["masked pixels"]["recipe"]
    overrides = {
        "model.config.hidden_size": 32, "model.config.num_attention_heads": 2, "model.config.num_hidden_layers": 1,
        "model.config.intermediate_size": 32, "model.config.decoder_num_hidden_layers": 1,
        "data.num_workers": 0, "run.logging_steps": 1, "run.batch_size": 8, "optimization.global_batch_size": 8,
    }  # fmt: skip
    content["methods"]["masked pixels"]["overrides"] = overrides
    content["methods"]["again"] = {
        "stages": [
            {"recipe": recipe, "overrides": overrides},
            {"recipe": recipe, "overrides": overrides | {"model.config.mask_type": "tube"}},
        ]
    }
    content["seeds"], content["shots"] = [1], [1]
    content["frozen"] = {"shots": [2], "draws": 1, "attentive": {"steps": 2, "num_heads": 2}}
    content["finetuning"]["overrides"] = {
        "max_steps": 1, "warmup_epochs": 0, "per_device_train_batch_size": 8, "dataloader_num_workers": 0,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.slow
def test_a_study_is_measured_cached_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(studies.BENCHMARKS, "camera_motion", small_benchmark)
    words = [
        "study",
        str(small_study(tmp_path / "study.yaml")),
        "--output_dir",
        str(tmp_path / "out"),
        "--max-steps",
        "2",
    ]
    assert main(words) == 0
    report = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [result["method"] for result in report["results"]] == ["masked pixels", "again"]
    for result in report["results"]:
        pretrained, random = (result[name]["camera_motion"]["scores"] for name in ("pretrained", "random"))
        assert set(pretrained) == set(random)
        assert {"kNN", "linear probe", "attentive probe", "2-shot linear", "1-shot fine-tuning"} == set(random)
        steps = 2 if result["method"] == "masked pixels" else 4  # the second one has two stages
        assert [line["step"] for line in result["log"]] == list(range(1, steps + 1))
        assert result["pretraining"]["steps"] == steps
    # The second stage starts where the first one ended.
    folder = tmp_path / "out" / "pretraining"
    recipe = yaml.safe_load((folder / "again-1-stage2" / "recipe.yaml").read_text())
    assert recipe["model"]["init_from"] == str(folder / "again-1" / "final")
    table = (tmp_path / "out" / "study.md").read_text()
    # Both methods have the same network, so there is one random twin.
    assert [line.split(" | ")[0] for line in table.splitlines()[2:5]] == [
        "| not pretrained",
        "| masked pixels",
        "| again",
    ]
    assert len(list((tmp_path / "out" / "frozen" / "camera_motion").iterdir())) == 3
    assert "chance 12.5%" in table
    assert (tmp_path / "out" / "camera_motion.png").stat().st_size > 0
    # Nothing is done twice: with the cache, not a single script is run.
    monkeypatch.setattr(studies.subprocess, "run", None)
    assert main(words) == 0
    assert (tmp_path / "out" / "study.md").read_text() == table


def test_summaries_are_means_and_deviations_over_seeds():
    runs = [
        {
            "method": "m",
            "seed": seed,
            "random": {"b": {"scores": {"kNN": low}}},
            "pretrained": {"b": {"scores": {"kNN": 1.0}}},
        }
        for seed, low in enumerate((0, 0.5))
    ]
    assert summarize(runs, "b") == {
        "m, not pretrained": {"kNN": (0.25, pytest.approx(0.125**0.5))},
        "m": {"kNN": (1.0, 0.0)},
    }


VARIANTS = [
    (path, variant) for path in STUDIES for variant in (None, *yaml.safe_load(path.read_text()).get("variants", {}))
]


@pytest.mark.parametrize(("path", "variant"), VARIANTS, ids=lambda value: getattr(value, "stem", value))
def test_published_studies_load(path, variant):
    study = load_study(str(path), variant)
    # Minutes of a GPU show whether a method learns; comparing methods takes seeds.
    assert len(study.seeds) == (1 if path.stem.startswith("gpu_") else 3)
    assert shipped.find(study.finetuning["recipe"], "recipe")
    assert all(stage["recipe"] for method in study.methods.values() for stage in stages(method))


def test_a_variant_replaces_what_it_names_and_nothing_else():
    path = str(ROOT / "training" / "studies" / "gpu_footage.yaml")
    whole, small = load_study(path), load_study(path, "cpu")
    assert list(small.methods) == list(whole.methods)
    assert small.methods["green 3D masks"]["overrides"]["model.config.mask_type"] == "green3d"
    assert small.methods["green 3D masks"]["overrides"]["model.config.image_size"] == 32
    assert small.benchmarks["camera_motion"]["size"] < whole.benchmarks["camera_motion"]["size"]
    with pytest.raises(ValueError, match=r"'gpu'.*cpu"):
        load_study(path, "gpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"benchmarks": {"charades": {}}}, "benchmarks must be some of"),
        ({"seeds": []}, "at least one"),
        ({"finetuning": {}}, "finetuning.recipe"),
        ({"colour": "red"}, "colour"),
        ({"methods": {"m": {"recipe": "none"}}}, "no recipe 'none'"),
        (
            {"methods": {"m": {"recipe": "study_videomae_pixels", "overrides": {"run.sed": 1}}}},
            "seed",
        ),
        ({"methods": {"m": {"stages": [{"recipe": "none"}]}}}, "no recipe 'none'"),
    ],
)
def test_bad_studies_are_refused_before_anything_is_built(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.setitem(studies.BENCHMARKS, "camera_motion", None)
    content = yaml.safe_load(STUDIES[0].read_text()) | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    assert main(["study", str(tmp_path / "study.yaml"), "--output_dir", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
