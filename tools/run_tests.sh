#!/usr/bin/env bash
# Set up the environment if needed and run all tests:
#
#   bash tools/run_tests.sh [pytest arguments]
#
# MMATTN_VENV and PYTHON as in setup_env.sh.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/tools/setup_env.sh"
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# Two processes, a file at a time: more would need more memory.
exec "${MMATTN_VENV:-$root/.venv}/bin/python" -m pytest -n 2 --dist loadfile "$@"
