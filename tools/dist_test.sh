#!/usr/bin/env bash
# Test on the GPUs of one machine, or of NNODES machines:
#   dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Environment: NNODES, NODE_RANK, PORT, MASTER_ADDR, PYTHON. On a machine
# without any GPU, GPUS processes run on the CPU.
set -e

if [ $# -lt 3 ]; then
    echo "usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" test "$3" "$1" "$2" "${@:4}"
