"""The command `tubelets`: its verbs, its one dialect, its errors of one line."""

import ast
import importlib
import json
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch

import tubelets
from tubelets import shipped
from tubelets.cli import evaluate, gallery
from tubelets.cli.main import VERBS, declare, main
from tubelets.cli.parser import SCREEN, UsageError, Verb
from tubelets.data.modalities.clips import Sampling
from tubelets.evaluation.features import Pooling
from tubelets.masking.trajectory import TRAJECTORY_TYPES
from tubelets.models.common.auto import MODELS
from tubelets.visualization.motion_gallery import BACKGROUNDS, MOTIONS

SPEAKING = {"print", "warn", "warning", "info", "error", "ArgumentTypeError"}
COMMAND = [sys.executable, "-m", "tubelets"]


def verb_of(name: str) -> Verb:
    return declare(name, importlib.import_module(f"tubelets.cli.{name}"))


def test_info_prints_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["tubelets"] == tubelets.__version__
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "pyav" in found["decoders"]
    assert set(found["models"]) == set(MODELS)
    main(["info"])
    text = capsys.readouterr().out
    assert all(f"{section}:" in text for section in found)


def test_help_takes_no_seconds() -> None:
    """Seconds depend on the machine, but those of torch and transformers are many on any."""
    code = (
        "import sys; from tubelets.cli.main import *; main(['--version']); main(['--help'])\n"
        "for name in VERBS: main([name, '--help'])\n"
        "print(*(set(sys.modules) & {'torch', 'transformers', 'accelerate', 'datasets'}))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # As `python -m tubelets` does it: the package is imported by a process that is the command.
    program = f"import sys; sys.orig_argv = ['python', '-m', 'tubelets']\n{code}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.stdout.splitlines()[0] == f"tubelets {tubelets.__version__}"
    assert result.stdout.splitlines()[-1] == ""
    assert after.ru_utime - before.ru_utime < 2


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_fits_a_screen_and_its_sections_show_every_flag(name: str) -> None:
    verb = verb_of(name)
    text = verb.help()
    assert text.count("\n") <= SCREEN
    assert f"usage: tubelets {name}" in text
    assert max(map(len, text.splitlines())) <= 120
    shown = text + verb.help("all")
    for action in verb.parser._actions:
        for flag in action.option_strings:
            assert f"{flag} " in shown or f"{flag}\n" in shown, flag
            assert action.help, f"{flag} of {name} has no help"
    for section in verb.sections:
        assert section.name in text
        assert verb.help(section.name).startswith(f"{section.name}: {section.summary}\n")


@pytest.mark.parametrize("name", VERBS)
def test_commands_in_the_help_are_read_as_they_are_printed(name: str) -> None:
    verb = verb_of(name)
    text = "\n".join([verb.description, *(section.details for section in verb.sections)]).replace("\\\n", " ")
    commands = re.findall(r"^ *(?:accelerate launch .* -m )?tubelets (.*)", text, flags=re.MULTILINE)
    assert commands or name == "info"
    for command in commands:
        other, *words = shlex.split(command, comments=True)
        options = verb_of(other).parse([word for word in words if word != "..."])
        if other in ("pretrain", "finetune") and not options.words[0].startswith("-"):
            assert options.words[0] == "my_recipe.yaml" or shipped.find(options.words[0], "recipe")


@pytest.mark.parametrize("name", VERBS)
def test_flags_have_one_spelling_and_the_output_folder_one_name(name: str) -> None:
    flags = [flag for action in verb_of(name).parser._actions for flag in action.option_strings]
    assert all("-" not in flag.removeprefix("--") for flag in flags if flag.startswith("--"))
    assert not {"--output", "--output_folder", "--out_dir"} & set(flags)


def test_dashes_and_underscores_are_the_same() -> None:
    verb = verb_of("shards")
    options = [
        verb.parse(["videos", f"--output{s}dir", "out-dir", f"--short{s}side=8", f"--drop{s}audio"]) for s in "-_"
    ]
    assert options[0] == options[1]
    assert (options[0].short_side, str(options[0].output_dir)) == (8, "out-dir")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shard"], "tubelets: no verb 'shard'; did you mean 'shards'?"),
        (["shards", "x", "--output-dirr", "y"], "unknown flag --output_dirr; did you mean '--output_dir'?"),
        (["shards", "--help", "splitz"], "no section 'splitz'; did you mean 'splits'?"),
        (["shards", "x"], "required: --output_dir"),
        (["shards", "x", "--output_dir", "y", "--crf", "z"], "--crf"),
        (["shards", "--output_dir", "y"], "give INPUT"),
        (["shards", "no-such-folder", "--output_dir", "y"], "no-such-folder"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.count("\n") == 1
    assert errors.startswith("tubelets")
    assert message in errors


def test_the_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "no-such-folder", "--output_dir", "y", "--traceback"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.splitlines()[-1].startswith("tubelets shards: ")


def test_errors_of_the_program_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("tubelets.cli.info.run", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["info"])


def test_a_choice_is_refused_with_the_nearest_one() -> None:
    verb = Verb("try", "Try it.")
    verb.add("--mask", choices=["tube", "random"])
    with pytest.raises(UsageError, match=r"'tubes' is none of tube, random; did you mean 'tube'\?"):
        verb.parse(["--mask", "tubes"])


def test_choices_that_are_spelled_out_for_the_help_are_those_that_exist() -> None:
    assert set(evaluate.SAMPLING) == set(get_args(Sampling))
    assert set(evaluate.POOLING) == set(get_args(Pooling))
    assert gallery.MASKS == TRAJECTORY_TYPES
    assert (tuple(MOTIONS), BACKGROUNDS) == (gallery.MOTIONS, gallery.BACKGROUNDS)


def messages_of(tree: ast.AST) -> Iterator[str]:
    """Texts of errors, warnings, the log and what is printed: whatever reaches a user."""
    for node in ast.walk(tree):
        speaks = isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPEAKING
        if isinstance(node, ast.Raise) or speaks:
            yield from (each.value for each in ast.walk(node) if isinstance(getattr(each, "value", None), str))


def test_messages_name_no_file_that_a_wheel_lacks() -> None:
    package = Path(tubelets.__file__).parent
    for path in package.rglob("*.py"):
        for text in messages_of(ast.parse(path.read_text(encoding="utf-8"))):
            assert not re.search(r"\b(scripts|training|tests|docs)/|\.py\b", text), f"{path}: {text}"


def test_the_module_is_the_command() -> None:
    assert "info" in subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    unknown = subprocess.run([*COMMAND, "fly"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert "fly" in unknown.stderr
