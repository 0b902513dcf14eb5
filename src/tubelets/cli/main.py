"""The command `tubelets`, also `python -m tubelets`: a table of verbs, each a module of this folder.

A verb is a module with a docstring and two functions: `add_arguments(verb)` declares its command line, `run(options)`
does the work and returns the exit code. The module is imported when its verb is asked for, and imports torch,
transformers and what needs them inside of `run`: help must not take seconds.
"""

import importlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import tubelets
from tubelets.cli.parser import UsageError, Verb
from tubelets.training.command_line import asked_for_help, nearest


@dataclass(frozen=True)
class Entry:
    """A row of the table of verbs.

    Attributes:
        summary: one line for the overview.
        models: whether the verb needs the package's models registered with transformers, which takes seconds.
    """

    summary: str
    models: bool = True


VERBS = {
    "shards": Entry("pack videos or sounds into shards that can be streamed", models=False),
    "pretrain": Entry("pretrain a model from a recipe"),
    "finetune": Entry("fine-tune or probe a model for a task, and test it"),
    "evaluate": Entry("measure frozen features: neighbours, probes, retrieval, and retrieval by text"),
    "join": Entry("join a video encoder and a text encoder, to be fine-tuned on videos with captions"),
    "embed": Entry("write features of a collection to a Parquet file"),
    "search": Entry("find the videos of a collection by a sentence or an example"),
    "list": Entry("list the authors' checkpoints that can be converted"),
    "convert": Entry("convert an authors' weight file to a checkpoint"),
    "export": Entry("write a model as ONNX and compare it with torch"),
    "push": Entry("publish a finished run on the Hub, with its card"),
    "benchmarks": Entry("build the package's mini-benchmarks from real footage and sounds", models=False),
    "study": Entry("compare pretraining with random weights over several seeds"),
    "severe": Entry("measure how well models generalise, beside published methods"),
    "gallery": Entry("draw synthetic motion, or every kind of mask", models=False),
    "masks": Entry("build a bank of coloured noise from which masks are cropped", models=False),
    "caption_motion": Entry("paste moving objects into videos and caption their motion, as shards", models=False),
    "copy": Entry("list or copy recipes, accelerate files, studies and training scripts", models=False),
    "info": Entry("print versions, decoders, devices and data paths for a bug report"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: command-line words; None reads `sys.argv`.

    Returns:
        The exit code: 0, or 2 after an error that was expected, such as a file that does not exist. Other errors are
        raised.

    Example:
        >>> main(["--version"])
        tubelets ...
        0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"tubelets {tubelets.__version__}")
        return 0
    verb, words = words[0].replace("-", "_"), words[1:]
    if verb not in VERBS:
        print(f"tubelets: no verb {verb!r}{nearest(verb, VERBS)}; verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    with_traceback = "--traceback" in words
    try:
        return run_verb(verb, [word for word in words if word != "--traceback"])
    except UsageError as error:
        print(f"tubelets {verb}: {_line(error)}; see `tubelets {verb} --help`", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_expected(error):
            raise
        if with_traceback:
            traceback.print_exc()
        print(f"tubelets {verb}: {_line(error)}", file=sys.stderr)
    return 2


def is_expected(error: Exception) -> bool:
    """Whether an error tells the user about his files or values, so that its message is enough.

    Args:
        error: from the work of a verb.

    Returns:
        True for errors of files and values, missing packages, and all that this package defines.

    Example:
        >>> is_expected(FileNotFoundError("no recipe at x.yaml")), is_expected(RuntimeError("shapes differ"))
        (True, False)
    """
    return isinstance(error, (ImportError, OSError, ValueError)) or type(error).__module__.startswith("tubelets.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def overview() -> str:
    """The help of the command."""
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {entry.summary}" for name, entry in VERBS.items()]
    return "\n".join(
        [
            "usage: tubelets VERB [...]",
            "",
            "Motion-aware video representation learning.",
            "",
            *lines,
            "",
            "`tubelets VERB --help` explains a verb, `tubelets VERB --help SECTION` a part of its flags.",
            "`--traceback` after a verb shows where an error arose; `tubelets --version` prints the version.",
        ]
    )


def run_verb(name: str, words: Sequence[str]) -> int:
    """Run a verb, or print its help.

    Args:
        name: one of `VERBS`.
        words: the words after it.

    Returns:
        The exit code.

    Raises:
        UsageError: if the words do not fit.
    """
    module = importlib.import_module(f"tubelets.cli.{name}")
    verb = declare(name, module, words)
    asked, section = asked_for_help(words)
    if asked:
        print(verb.help(section), end="")
        return 0
    options = verb.parse(words)
    if VERBS[name].models:
        from tubelets.models.common.auto import register_configs

        register_configs()
    return module.run(options)


def declare(name: str, module: ModuleType, words: Sequence[str] = ()) -> Verb:
    """The command line that the module of a verb declares.

    Args:
        name: of the verb.
        module: its module.
        words: what the user typed after the verb.

    Example:
        >>> from tubelets.cli import info
        >>> declare("info", info).parse(["--json"]).json
        True
    """
    verb = Verb(name, str(module.__doc__), words)
    module.add_arguments(verb)
    return verb
