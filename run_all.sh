#!/usr/bin/env bash
# The whole study, set-up included: ./run_all.sh --help
# Finds a Python, and leaves the rest to lib/study/runner.py.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

recent='import sys; sys.exit(sys.version_info < (3, 11))'
venv='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'

# An active environment first; then the Python that the pins were made for; then any other.
for active in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
  if [ -n "$active" ] && "$active/bin/python" -c "$recent" 2>/dev/null; then
    exec "$active/bin/python" -m lib.study "$@"
  fi
done
for python in python3.11 python3 python python3.12 python3.13 python3.14; do
  if "$python" -c "$venv" >/dev/null 2>&1; then
    exec "$python" -m lib.study "$@"
  fi
done

echo "run_all.sh needs Python 3.11 or newer with its venv module, and found none on the PATH." >&2
echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.11)," >&2
echo "or make the conda environment: conda env create -f environment.yml" >&2
exit 2
