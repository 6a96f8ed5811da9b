#!/usr/bin/env bash
# Three hosts train together, one is cut off, all three resume. As root:
#
#   bash tests/hosts/three_hosts.sh CONFIG FOLDER
#
# CONFIG trains for longer than it takes to cut a host off and writes
# checkpoints by iterations. FOLDER gets the work directory and the logs; the
# hosts share it. They are network namespaces on a bridge of their own: no
# packet leaves them, and they are gone when the script ends.
#
# PYTHON   the interpreter (default: python)
# CUT      which host is cut off, 0 to 2 (default: 2; 0 has the rendezvous)
# TIMEOUT  seconds until a host that is silent counts as lost (default: 15)
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: three_hosts.sh CONFIG FOLDER" >&2; exit 2; }
CONFIG=$1
FOLDER=$2
CUT=${CUT:-2}
TIMEOUT=${TIMEOUT:-15}
DEADLINE=300  # for what takes some ten seconds on an idle machine
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools" && pwd)
NET=mmattn$$
HOSTS=(0 1 2)

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

fail() {
    say "FAILED: $*"
    tail -n 30 "$FOLDER"/*.log
    exit 1
}

# within SECONDS COMMAND: whether it succeeds before the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

remove_hosts() {
    local name
    for name in "${HOSTS[@]}" switch; do
        ip netns pids "$NET-$name" 2>/dev/null | xargs -r kill -9 || true
        ip netns del "$NET-$name" 2>/dev/null || true
    done
}

make_hosts() {
    local host
    ip netns add "$NET-switch"
    ip -n "$NET-switch" link add bridge type bridge
    ip -n "$NET-switch" link set bridge up
    for host in "${HOSTS[@]}"; do
        ip netns add "$NET-$host"
        ip link add eth0 netns "$NET-$host" type veth \
            peer name "port$host" netns "$NET-switch"
        ip -n "$NET-switch" link set "port$host" master bridge up
        ip -n "$NET-$host" addr add "10.0.0.$((host + 1))/24" dev eth0
        ip -n "$NET-$host" link set lo up
        ip -n "$NET-$host" link set eth0 up
    done
}

# start NAME [arguments of train.py]: on every host, as a user would.
start() {
    local host name=$1
    shift
    for host in "${HOSTS[@]}"; do
        NNODES=3 NODE_RANK=$host MASTER_ADDR=10.0.0.1 PORT=29500 \
            GLOO_SOCKET_IFNAME=eth0 \
            ip netns exec "$NET-$host" \
            bash "$TOOLS/dist_train.sh" "$CONFIG" 1 \
            --work-dir "$FOLDER/out" "$@" >"$FOLDER/$name-$host.log" 2>&1 &
        PIDS[host]=$!
    done
}

ended() { ! kill -0 "${PIDS[$1]}" 2>/dev/null; }

# ends HOST SECONDS: waits, and leaves the exit code in CODE.
ends() {
    within "$2" ended "$1" || fail "host $1 still runs after $2 s"
    CODE=0
    wait "${PIDS[$1]}" || CODE=$?
}

last_iteration() { grep -oE '[0-9]+\.pth$' "$FOLDER/out/last_checkpoint"; }

trained() { [ -s "$FOLDER/out/last_checkpoint" ] || ended 0; }

trap remove_hosts EXIT
mkdir -p "$FOLDER"
make_hosts
say "three hosts on 10.0.0.0/24"

start first --cfg-options env_cfg.dist_cfg.timeout="$TIMEOUT"
within "$DEADLINE" trained || fail 'no checkpoint'
! ended 0 || fail 'the run ended'
ip -n "$NET-$CUT" link set eth0 down
say "trained together to iteration $(last_iteration); host $CUT is cut off"

for host in "${HOSTS[@]}"; do
    ends "$host" "$DEADLINE"
    [ "$CODE" -ne 0 ] || fail "host $host ended as if nothing had happened"
    message=$(grep -m 1 -oE 'rank [0-9]+ lost another process.*' \
        "$FOLDER/first-$host.log") || fail "host $host does not say why"
    say "host $host ended with $CODE: $message"
done

before=$(last_iteration)
after=$((${before%.pth} + 10))
ip -n "$NET-$CUT" link set eth0 up
say "host $CUT is back, all three resume"
start second --resume --cfg-options train_cfg.max_iters="$after" \
    env_cfg.dist_cfg.timeout="$TIMEOUT"
for host in "${HOSTS[@]}"; do
    ends "$host" "$DEADLINE"
    [ "$CODE" -eq 0 ] || fail "host $host ended with $CODE"
done
[ "$(last_iteration)" = "$after.pth" ] || fail "no checkpoint $after"
say "resumed from iteration ${before%.pth}, finished at $after"
