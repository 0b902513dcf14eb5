#!/usr/bin/env bash
# Makes a virtual environment, installs the package with its development tools, and runs every check and test.
# Arguments are passed to pytest, e.g. -m slow. Takes no input, can be run twice, works offline once installed.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
echo "== ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== mypy"; .venv/bin/mypy
echo "== import-linter"; .venv/bin/lint-imports
# Two processes, a file each at a time; a test's own threads would only get in each other's way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
echo "== pytest"; .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
