#!/usr/bin/env bash
# The whole check on a machine with an NVIDIA GPU, in under ten minutes: see bench/gpu_check.py, which this hands its options to.
# It works in a bare checkout too, where torch, timm, h5py and Pillow are there and isc-fast is not installed; it downloads nothing.
# PYTHON names the interpreter; by default it is the checkout's .venv, else python3.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python
fi
"$python" -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"isc-fast needs Python 3.11 or newer, and this is {v[0]}.{v[1]}; run: PYTHON=python3.12 bench/gpu_check.sh")'
# training/ and export/ are installed inside isc_fast: a folder where they are.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir "$site/isc_fast"
ln -s "$root"/isc_fast/* "$root/training" "$root/export" "$site/isc_fast/"
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
status=0
"$python" "$root/bench/gpu_check.py" "$@" || status=$?
exit "$status"
