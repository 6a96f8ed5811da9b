#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share:
#   dist_run.sh train|test GPUS [arguments of the tool]
set -e

NAME=dist_$1.sh
SCRIPT=$1.py
GPUS=$2
shift 2
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PYTHON=${PYTHON:-python}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" > /dev/null && pwd)
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

case "$GPUS" in
    '' | *[!0-9]* | 0*)
        echo "$NAME: error: GPUS is '$GPUS', must be a number" \
            "from 1 on" >&2
        exit 2
        ;;
esac
FOUND=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
if [ "$FOUND" -eq 0 ]; then
    echo "$NAME: no GPU here, $GPUS gloo process(es) on the CPU" >&2
    # The processes share the cores.
    THREADS=$(($(nproc) / GPUS))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((THREADS > 1 ? THREADS : 1))}
elif [ "$FOUND" -lt "$GPUS" ]; then
    echo "$NAME: error: $GPUS GPUs asked for, $FOUND found;" \
        "ask for at most $FOUND" >&2
    exit 1
fi

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" \
    --node_rank="$NODE_RANK" \
    --master_addr="$MASTER_ADDR" \
    --master_port="$PORT" \
    --nproc_per_node="$GPUS" \
    "$TOOLS/$SCRIPT" "$@" --launcher pytorch
