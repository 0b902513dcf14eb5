"""Builds the package: a wheel also gets the folders of the repository that `tubelets.shipped` finds."""

import ast
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = Path("src/tubelets/shipped/__init__.py")


def shipped_folders() -> tuple[str, ...]:
    """`FOLDERS` of the package, which cannot be imported without its dependencies."""
    for statement in ast.parse((ROOT / SHIPPED).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "FOLDERS":
            return ast.literal_eval(statement.value)
    raise SystemExit(f"{SHIPPED} has no FOLDERS")


class BuildWithShippedFiles(build_py):
    """Copies the folders into the package, unless it is installed in place, where they are found as they are."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        for name in shipped_folders():
            target = Path(self.build_lib, "tubelets", "shipped", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.png"))


setup(cmdclass={"build_py": BuildWithShippedFiles})
