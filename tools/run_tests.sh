#!/usr/bin/env bash
# Set up the environment if needed and run all tests:
#
#   bash tools/run_tests.sh [--stack onedl | openmmlab] [pytest arguments]
#
# The stack, MMATTN_VENV and PYTHON as in setup_env.sh.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
stack=onedl venv=.venv
if [ "${1-}" = --stack ]; then
    stack=${2-}
    [ "$stack" = onedl ] || venv=.venv-$stack
    shift $(($# < 2 ? $# : 2))
fi
venv=${MMATTN_VENV:-$root/$venv}
MMATTN_VENV=$venv bash "$root/tools/setup_env.sh" "$stack"
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# Two processes, a file at a time: more would need more memory.
exec "$venv/bin/python" -m pytest -n 2 --dist loadfile "$@"
