#!/usr/bin/env bash
# Train on the GPUs of one machine, or of NNODES machines:
#   dist_train.sh CONFIG GPUS [arguments of train.py]
# Environment: NNODES, NODE_RANK, PORT, MASTER_ADDR, PYTHON. On a machine
# without any GPU, GPUS processes run on the CPU.
set -e

if [ $# -lt 2 ]; then
    echo "usage: dist_train.sh CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" train "$2" "$1" "${@:3}"
