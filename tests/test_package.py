"""Importing the package, its registration with transformers, and its command line."""

import dataclasses
import importlib
import json
import runpy
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch
import transformers
from packaging.requirements import Requirement
from packaging.version import Version
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)

import tubelets
from tubelets.models.common.auto import MODELS, register_model
from tubelets.models.common.auto_classes import AutoModelForVideoTextRetrieval

ROOT = Path(__file__).parent.parent
HEAVY = {"datasets", "torchvision", "open_clip", "av", "matplotlib", "timm", "scipy"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def modules_after(code: str) -> set[str]:
    """Modules that `code` imports after torch, transformers and what they import for a model."""
    before = "import sys, torch, transformers; from transformers import AutoModel, PreTrainedModel; "
    text = f"{before}known = set(sys.modules); {code}; print(*sorted(set(sys.modules) - known))"
    return set(run(text).split())


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.22"), reason="its models imported torch._dynamo and all it looks at"
)
def test_import_is_light() -> None:
    """Seconds depend on the machine. What costs them is modules: their number must not grow."""
    found = modules_after("import tubelets")
    assert not HEAVY & found
    # The table of model types and one configuration a type; no model, mask or motion.
    own = {name for name in found if name.startswith("tubelets")}
    assert len(own) <= 5 + len(MODELS) + len(packages()), sorted(own)
    assert not {name for name in own if "modeling_" in name or "masking" in name or name.startswith("tubelets.motion")}
    assert len(found) < 70, f"importing the package also imports {len(found)} modules: {sorted(found)}"


def test_the_command_waits_for_neither_torch_nor_transformers() -> None:
    """How the process was started decides: a program that imports the package finds its models registered."""
    known = {
        ("/bin/tubelets", "shards"): True,
        ("-m", "tubelets", "pretrain"): True,
        ("-u", "-m", "tubelets"): True,
        ("-c", "import tubelets"): False,
        ("train.py", "tubelets"): False,
        ("-m", "pytest", "tubelets"): False,
        (): False,
    }
    code = "import sys, json; sys.orig_argv = ['python', *json.loads(sys.argv[1])]; import tubelets; "
    code += "print(tubelets._is_the_command(), 'torch' in sys.modules, 'transformers' in sys.modules)"
    for words in (["-m", "tubelets"], ["train.py"]):
        found = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True)
        assert found.stdout.split() == (["True", "False", "False"] if words[0] == "-m" else ["False", "True", "True"])
    for words, expected in known.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "orig_argv", ["python", *words])
            assert tubelets._is_the_command() is expected, words


def packages() -> list[Path]:
    root = Path(tubelets.__file__).parent
    return [*(root / "models").rglob("__init__.py"), *(root / "data").rglob("__init__.py")]


def test_a_configuration_imports_the_models_of_its_own_type_only() -> None:
    found = {name for name in modules_after("import tubelets; tubelets.SigmaConfig()") if "modeling_" in name}
    own = {"backbones.video_vit.modeling_video_vit", "methods.masked_video.modeling_masked_video"}
    own |= {"methods.sigma.modeling_sigma"}
    assert {name for name in found if name.startswith("tubelets")} == {f"tubelets.models.{name}" for name in own}


def test_the_stub_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts/make_stubs.py"))
    assert script["STUB"].read_text(encoding="utf-8") == script["stub"](), "run scripts/make_stubs.py"


def test_every_folder_declares_its_types_without_importing_them() -> None:
    for entry in MODELS.values():
        assert entry.load(entry.config).model_type == entry.model_type
        assert entry.author_checkpoints is None or entry.load(entry.author_checkpoints)
    for room in ("backbones", "heads", "methods"):
        for path in (ROOT / "src/tubelets/models" / room).glob("*/__init__.py"):
            imports = [line for line in path.read_text().splitlines() if line.startswith(("import", "from"))]
            assert all("tubelets.models.common.entries" in line for line in imports), path


def test_a_model_type_belongs_to_one_entry() -> None:
    entry = MODELS["sigma"]
    register_model(entry)
    with pytest.raises(ValueError, match="'sigma' belongs to"):
        register_model(dataclasses.replace(entry, package="elsewhere"))
    assert MODELS["sigma"] is entry


@pytest.mark.parametrize("model_type", MODELS)
def test_auto_classes_know_every_model(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    video, audio = AutoModelForVideoClassification, AutoModelForAudioClassification
    skeleton, retrieval = tubelets.AutoModelForSkeletonClassification, AutoModelForVideoTextRetrieval
    known = (AutoModel, AutoModelForPreTraining, retrieval, video, audio, skeleton)
    autos = {each.__name__: each for each in known}
    # Backbones that several methods share have no pretraining of their own, and dual encoders no classes.
    modality = next(iter(config.input_specs.values())).modality
    classifier = {"audio": audio, "skeleton": skeleton}.get(modality, video).__name__
    needed = {"AutoModel", "AutoModelForPreTraining" if model_type.endswith("dual_encoder") else classifier}
    assert needed <= set(MODELS[model_type].models) <= set(autos)
    for name in MODELS[model_type].models:
        with torch.device("meta"):
            assert autos[name].from_config(config).config.model_type == model_type


def test_a_checkpoint_loads_in_a_new_process_that_only_imports_the_package(tmp_path: object) -> None:
    config = tubelets.SigmaConfig(
        image_size=32, num_frames=4, hidden_size=24, num_attention_heads=2, num_hidden_layers=1, intermediate_size=24
    )
    tubelets.SigmaModel(config).save_pretrained(tmp_path)
    tubelets.video_processor(config).save_pretrained(tmp_path)
    found = run(
        "import tubelets; from transformers import AutoModel, AutoVideoProcessor; "
        f"print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__, "
        f"type(AutoVideoProcessor.from_pretrained({str(tmp_path)!r})).__name__)"
    )
    assert found.split() == ["SigmaModel", "VideoMAEVideoProcessor"]
    # Without the type in the processor's own file, the model's configuration decides.
    path = tmp_path / "video_preprocessor_config.json"
    content = json.loads(path.read_text())
    content.pop("video_processor_type")
    path.write_text(json.dumps(content))
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)).__name__ == "VideoMAEVideoProcessor"


def test_every_public_name_can_be_imported() -> None:
    for name in tubelets.__all__:
        assert getattr(tubelets, name) is not None
    assert set(tubelets.__all__) <= set(dir(tubelets))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("tubelets").nothing  # noqa: B018


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    allowed = {}
    for dependency in map(Requirement, requires("tubelets") or []):
        if dependency.marker:  # of an extra
            continue
        (lowest,) = (bound.version for bound in dependency.specifier if bound.operator == ">=")
        allowed[dependency.name] = Version(lowest)
    lines = (ROOT / "tests/lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(version) for name, version in tested.items()} == allowed
