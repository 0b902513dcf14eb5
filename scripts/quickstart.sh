#!/usr/bin/env bash
# Makes a virtual environment, installs the package, and runs the main job on real footage: see scripts/quickstart.py.
# Arguments are passed on, e.g. --fresh. Takes no input, can be run twice, works offline once installed and fetched.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" visualization
.venv/bin/python scripts/quickstart.py "$@"
