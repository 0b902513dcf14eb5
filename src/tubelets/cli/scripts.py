"""The training scripts, which a user may also copy, run in this process."""

import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


def load_script(name: str) -> ModuleType:
    """Import a training script of the package.

    Args:
        name: e.g. "run_pretraining".

    Returns:
        Its module.

    Raises:
        FileNotFoundError: if there is none of this name.

    Example:
        >>> load_script("run_pretraining").main(["--help"])  # doctest: +ELLIPSIS
        Pretrain a model of this package from a recipe; ...
    """
    from tubelets import shipped

    path = shipped.find(name, "script").path
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As an import does it: objects of a worker process are found by the name of their module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_script(name: str, words: Sequence[str]) -> int:
    """Run a training script to its end.

    Args:
        name: as for `load_script`.
        words: its command line.

    Returns:
        The exit code.
    """
    load_script(name).main(list(words))
    return 0
