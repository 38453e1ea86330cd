#!/bin/bash
# Make the Python environment in $1 from the locked requirements, and Homeport itself in it.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
if [ ! -x "$venv/bin/python" ]; then
  echo "Making the Python environment in $venv"
  "$PYTHON" -m venv "$venv"
fi
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
pip=("$venv/bin/python" -m pip install -q --disable-pip-version-check)
uv=$(mktemp)
trap 'rm -f "$uv"' EXIT
# uv installs in parallel; where it cannot reach what pip is set up for, pip does the same slower.
awk '/^[a-z]/ {mine = /^uv==/} mine' requirements.lock >"$uv"
[ -x "$venv/bin/uv" ] || "${pip[@]}" --require-hashes -r "$uv"
if ! "$venv/bin/uv" pip sync -q --python "$venv/bin/python" --require-hashes requirements.lock; then
  "${pip[@]}" --require-hashes -r requirements.lock
fi
"$venv/bin/uv" pip install -q --python "$venv/bin/python" --offline --no-deps --no-build-isolation -e . ||
  "${pip[@]}" --no-deps --no-build-isolation -e .
