#!/usr/bin/env bash
# Train as a slurm job:
#   slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# Environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS, PYTHON.
set -e

if [ $# -lt 4 ]; then
    echo "usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR" \
        "[arguments of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh" train "$1" "$2" \
    "$3" --work-dir "$4" "${@:5}"
