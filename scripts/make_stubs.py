"""Write `src/tubelets/__init__.pyi`, the public names for type checkers and editors; run after adding a model type.

Example:
    python scripts/make_stubs.py
"""

import argparse
from pathlib import Path

import tubelets

STUB = Path(__file__).resolve().parents[1] / "src/tubelets/__init__.pyi"
HEAD = '"""Public names of the package; written by `scripts/make_stubs.py`."""\n\n'
LINE_LENGTH = 120


def stub() -> str:
    """Render the stub, which imports each public name from the module that defines it."""
    public = [(getattr(tubelets, name), name) for name in tubelets.__all__ if name != "__version__"]
    found = sorted((value.__module__, name) for value, name in public)
    return HEAD + "".join(_import(*each) for each in found) + "\n__version__: str\n"


def _import(module: str, name: str) -> str:
    line = f"from {module} import {name} as {name}"
    return f"{line}\n" if len(line) <= LINE_LENGTH else f"from {module} import (\n    {name} as {name},\n)\n"


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    STUB.write_text(stub(), encoding="utf-8")
    print(f"wrote {STUB}")


if __name__ == "__main__":
    main()
