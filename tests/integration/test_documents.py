"""What documents and docstrings show runs."""

import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import VideoMAEForVideoClassification

import tubelets
from preloaded import run_script
from tubelets import SigmaConfig, SigmaForPreTraining, SigmaForVideoClassification, shipped
from tubelets.cli.main import VERBS, declare
from tubelets.evaluation.studies import load_study
from tubelets.models.common.auto import inference_processor
from tubelets.models.methods.sigma.conversion_sigma import to_official
from tubelets.training.finetuning_arguments import parse_finetuning_arguments
from tubelets.training.recipe import load_recipe
from videos import make_video

ROOT = Path(__file__).resolve().parents[2]
DOCTEST_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
MODULES = [
    name for _, name, _ in pkgutil.walk_packages(tubelets.__path__, "tubelets.") if not name.endswith("__main__")
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tiny_config(**fields: Any) -> SigmaConfig:
    sizes = {"image_size": 32, "num_frames": 4, "hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1}
    decoder = {"decoder_hidden_size": 64, "decoder_num_attention_heads": 1, "decoder_num_hidden_layers": 1}
    return SigmaConfig(
        **sizes, **decoder, intermediate_size=64, decoder_intermediate_size=64, num_prototypes=4, **fields
    )


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    torch.manual_seed(0)
    result = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=DOCTEST_FLAGS)
    assert result.failed == 0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run_printed(block: str, folder: Path, then: str = "") -> str:
    """Run a snippet as printed, in a process that has imported nothing; what it prints."""
    program = f"{block}\n{then}"
    result = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def snippet(word: str) -> str:
    (found,) = [block for block in blocks("python") if word in block]
    return found


def test_readme_feature_snippet(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "quickstart" / "model" / "final"
    config = tiny_config()
    SigmaForPreTraining(config).save_pretrained(folder)
    inference_processor(config).save_pretrained(folder)
    (tmp_path / "clip.mp4").write_bytes(make_video(20, 48, 64))
    shape = run_printed(snippet("read_clip"), tmp_path, "print(tuple(features.shape))")
    assert shape.splitlines()[-1] == f"(1, {config.hidden_size})"


def test_readme_stock_snippet(tmp_path: Path) -> None:
    config = tiny_config(num_labels=3)
    SigmaForVideoClassification(config).save_pretrained(tmp_path / "runs" / "mine-finetuned")
    inference_processor(config).save_pretrained(tmp_path / "runs" / "mine-finetuned")
    run_printed(snippet("as_videomae"), tmp_path)
    stock = VideoMAEForVideoClassification.from_pretrained(tmp_path / "stock")
    assert stock.config.num_labels == 3


def test_readme_pipeline_snippet(tmp_path: Path) -> None:
    config = tiny_config(num_labels=3)
    SigmaForVideoClassification(config).save_pretrained(tmp_path / "runs" / "mine-finetuned")
    inference_processor(config).save_pretrained(tmp_path / "runs" / "mine-finetuned")
    (tmp_path / "clip.mp4").write_bytes(make_video(20, 48, 64))
    found = run_printed(snippet("classify = pipeline"), tmp_path, "print([len(answer) for answer in answers])")
    assert found.splitlines()[-1] == "[3, 3]"


def test_readme_conversion_snippet(tmp_path: Path) -> None:
    weights = to_official(SigmaForPreTraining(tiny_config(target_type="dino_v1", teacher_hidden_size=384)))
    arguments = __import__("argparse").Namespace(num_frames=4, input_size=32)
    torch.save({"model": weights, "args": arguments}, tmp_path / "kinetics_400_vit_b_sigma_with_dino.pth")
    printed = run_printed(snippet("load_official"), tmp_path, "print(model.config.target_type)")
    assert (tmp_path / "sigma-dino-vit-base-k400" / "model.safetensors").is_file()
    assert printed.splitlines()[-1] == "dino_v1"


def test_readme_motion_snippet(tmp_path: Path) -> None:
    changed, sentence = reversed(
        run_printed(snippet("sample_motion"), tmp_path, "print(bool((moved != frames).any()))").splitlines()[-2:]
    )
    assert changed == "True"
    assert "moves" in sentence


def test_every_python_snippet_of_the_readme_is_run() -> None:
    assert len(blocks("python")) == 5


PAGES = (
    README,
    *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))),
    *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("README.md"))),
    (ROOT / "training" / "studies" / "README.md").read_text(encoding="utf-8"),
)
COMMANDS = sorted(
    {
        command.split(" #")[0].strip()
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
        for command in block.replace("\\\n", " ").splitlines()
        if command[:1] != "#"
    }
    - {""}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documents_fit(command: str, tmp_path: Path) -> None:
    """Verbs, flags and values of each are read as the command reads them; files that they make are not looked for."""
    words = shlex.split(command)
    for word in words:
        if word.startswith(("scripts/", "training/")):
            assert (ROOT / word).is_file(), word
    if "tubelets" not in words or words[0] == "pip":
        return
    verb, *rest = words[words.index("tubelets") + 1 :]
    assert verb in VERBS
    options = declare(verb, importlib.import_module(f"tubelets.cli.{verb}"), rest).parse(rest)
    if verb == "pretrain":
        load_recipe(options.words[0], options.words[1:]).model.build_config()
    elif verb == "finetune":
        parse_finetuning_arguments([*options.words, "--task", task_of(options.words[0])])
    elif verb == "copy":
        assert shipped.find(options.name)
    elif verb == "study":
        load_study(options.study, options.variant)


def task_of(recipe: str) -> str:
    """A command starts from a model that it does not make here, so that its task cannot follow from it."""
    if recipe.startswith("video_text_"):
        return "video-text-retrieval"
    return next((f"{kind}-classification" for kind in ("audio", "skeleton") if kind in recipe), "video-classification")


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_every_script_explains_itself(script: Path) -> None:
    result = run_script(script, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_links_lead_somewhere() -> None:
    for page in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "src").rglob("README.md"),
        *(ROOT / "training").rglob("README.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (page.parent / target).exists(), f"{target} in {page.name}"
