#!/usr/bin/env bash
# Create the Python environment of mmattn, or do nothing if it is there.
#
#   bash tools/setup_env.sh [onedl | openmmlab]
#
# onedl (default) is the stack of requirements.txt, the maintained forks;
# openmmlab that of requirements-openmmlab.txt, OpenMMLab's last releases.
#
# MMATTN_VENV  where (default: .venv or .venv-openmmlab in the repository)
# PYTHON       the interpreter to make it from (default: the first of Python
#              3.12 (onedl only), 3.11, 3.10 that runs)
# MAX_JOBS     compiler processes while mmcv is built (default: all cores, one
#              for each 2 GB of memory at most)
set -euo pipefail

say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

root=$(cd "$(dirname "$0")/.." && pwd)
case ${1-onedl} in
    onedl)
        suffix='' requirements=$root/requirements.txt newest=12
        mmcv=onedl-mmcv wheels=https://mmwheels.onedl.ai ;;
    openmmlab)
        suffix=-openmmlab requirements=$root/tools/requirements$suffix.txt
        newest=11 mmcv=mmcv wheels='' ;;
    *) die "there is no stack '$1', only onedl (the default) and openmmlab" ;;
esac
constraints=$root/tools/constraints$suffix.txt
venv=${MMATTN_VENV:-$root/.venv$suffix}
stamp=$venv/mmattn-requirements.txt

runs() {
    "$1" -c "import sys
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        runs "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.10 to" \
            "3.$newest that runs ($("$PYTHON" --version 2>&1 || true))"
        echo "$PYTHON"
        return
    fi
    local minor candidate
    for minor in $(seq "$newest" -1 10); do
        for candidate in "python3.$minor" \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.$minor.*/bin/python; do
            if runs "$candidate"; then echo "$candidate"; return; fi
        done
    done
    if runs python3; then echo python3; return; fi
    die "no Python 3.10 to 3.$newest found (python3 is" \
        "$(python3 --version 2>&1 || echo missing)); install one, or name it:" \
        "PYTHON=/path/to/python3.$newest $0"
}

pinned() { grep -E "^($1)==" "$requirements"; }
content() { cat "$requirements" "$constraints"; }

# Follow a build through its log: ninja prints [done/total].
watch_build() {
    local pid=$1 log=$2 start=$SECONDS shown='' now
    while kill -0 "$pid" 2>/dev/null; do
        now=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | tr -d ' ' \
            || true)
        if [ -t 1 ]; then
            printf '\r[setup] mmcv %s, %d min %02d s ' "${now:-preparing}" \
                $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
        elif [ "$now" != "$shown" ] && [ $((SECONDS % 30)) -lt 3 ]; then
            say "mmcv $now, $(((SECONDS - start) / 60)) min"
            shown=$now
        fi
        sleep 2
    done
    [ ! -t 1 ] || printf '\n'
}

install_mmcv() {
    local pin torch_tag log=$venv/mmcv-build.log memory jobs
    pin=$(pinned $mmcv)
    torch_tag=$("$python" -c "
import torch
major, minor = torch.__version__.split('.')[:2]
cuda = (torch.version.cuda or '').replace('.', '')
print(f\"{'cu' + cuda if cuda else 'cpu'}-torch{major}{minor}0\")")
    if [ -n "$wheels" ] && "$python" -m pip install -q --only-binary $mmcv \
        --retries 0 --timeout 10 \
        -f "$wheels/$torch_tag/simple/$mmcv/index.html" "$pin" 2>"$log"; then
        say "$pin from a ready wheel"
        return
    fi
    command -v g++ >/dev/null || die "no wheel of $pin fits this machine" \
        "($torch_tag) and there is no C++ compiler to build it; install g++" \
        "and the Python headers (Debian: apt-get install g++ python3-dev)"
    memory=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
    jobs=${MAX_JOBS:-$(($(nproc) < memory ? $(nproc) : memory))}
    jobs=$((jobs > 0 ? jobs : 1))
    say "no wheel of $pin fits ($torch_tag): building it with $jobs" \
        "process(es), some 15 minutes on 2 cores; log: $log"
    MMCV_WITH_OPS=1 MAX_JOBS=$jobs "$python" -m pip install -v \
        --no-build-isolation "$pin" >"$log" 2>&1 &
    watch_build $! "$log"
    wait $! || { tail -n 20 "$log" >&2; die "mmcv did not build, see $log"; }
}

install() {
    local torch
    say "virtual environment $venv of $("$base_python" --version)"
    "$base_python" -m venv --clear "$venv" || die "cannot create $venv;" \
        "Debian and Ubuntu need the package python3-venv"
    "$python" -m pip install -q $(pinned 'pip|setuptools|wheel|ninja')
    torch=$(pinned 'torch|torchvision')
    say "$(echo $torch) (with its CUDA libraries, some 3 GB)"
    "$python" -m pip install -q $torch $(pinned numpy)
    install_mmcv
    say 'the toolboxes'
    "$python" -m pip install -q --no-build-isolation -r "$requirements"
    if ! "$python" -c 'import cv2' 2>/dev/null; then
        say 'no libGL here: OpenCV without windows'
        "$python" -m pip uninstall -q -y opencv-python-headless
        "$python" -m pip install -q --no-deps \
            "$(pinned opencv-python | sed s/python/python-headless/)"
    fi
    "$python" -c 'import mmcv.ops, mmdet, mmseg, mmpretrain' ||
        die 'the environment does not import, see above'
    content >"$stamp"
}

python=$venv/bin/python
if content | cmp -s - "$stamp"; then
    say "environment $venv is there"
else
    base_python=$(find_python)
    install
fi
# Import mmattn from this checkout. Written by hand because an environment may
# serve several checkouts in turn; `pip install -e .` is for other ones.
echo "$root" >"$("$python" -c \
    'import sysconfig; print(sysconfig.get_path("purelib"))')/mmattn.pth"
