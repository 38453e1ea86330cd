#!/bin/bash
# Make the Python environment in $1 from the locked requirements, and Homeport itself in it.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
if [ ! -x "$venv/bin/python" ]; then
  echo "Making the Python environment in $venv"
  "$PYTHON" -m venv "$venv"
fi
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
