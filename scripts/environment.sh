# Sourced by the other scripts: makes .venv in the repository and installs the package with the extras in $1.
# TUBELETS_PYTHON names the interpreter to build it with (default python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

wanted="$(cksum pyproject.toml)"
if [ "$(cat ".venv/.tubelets-$1" 2>/dev/null || true)" = "$wanted" ]; then
    echo "environment .venv is up to date"
else
    echo "installing tubelets[$1] into .venv (several GB of PyTorch the first time)"
    if [ ! -x .venv/bin/python ]; then "${TUBELETS_PYTHON:-python3}" -m venv .venv; fi
    .venv/bin/python -m pip install --quiet --editable ".[$1]"
    echo "$wanted" > ".venv/.tubelets-$1"
fi
