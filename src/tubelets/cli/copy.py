"""Copy a recipe, accelerate file, study or training script of the package, to read and edit it.

Without a name, lists what there is.

  tubelets copy
  tubelets copy sigma_vit_b_k400
  tubelets copy eight_gpus configs --force
  tubelets copy run_pretraining
"""

import argparse
import shutil
import textwrap
from pathlib import Path

from tubelets.cli.parser import Verb
from tubelets.training.command_line import WIDTH


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("name", metavar="NAME", nargs="?", help="of a recipe, accelerate file, study or script")
    verb.add("folder", metavar="DIR", nargs="?", type=Path, default=Path("."), help="where to; by default here")
    verb.add("--force", action="store_true", help="overwrite a file of that name")


def run(options: argparse.Namespace) -> int:
    """Copy a file, or list all.

    Args:
        options: the command line.

    Returns:
        The exit code.

    Raises:
        FileExistsError: if the file exists, without `--force`.
        FileNotFoundError: with the nearest name, if there is no such file.
    """
    from tubelets import shipped

    if options.name is None:
        print_list()
        return 0
    source = shipped.find(options.name).path
    target = options.folder / source.name
    if target.exists() and not options.force:
        raise FileExistsError(f"{target} exists; --force overwrites it")
    options.folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(f"wrote {target}")
    return 0


def print_list() -> None:
    """Print every file with its kind, name and what it is."""
    from tubelets import shipped

    found = list(shipped.files().values())
    width = max(len(file.name) for file in found)
    kind = None
    for file in found:
        if file.kind != kind:
            kind = file.kind
            print(f"{kind}:")
        print(f"  {file.name:{width}}  {textwrap.shorten(file.summary, WIDTH - width - 4, placeholder=' ...')}")
