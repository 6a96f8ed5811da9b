#!/usr/bin/env bash
# From a fresh clone to a trained Mask R-CNN: environment, a generated dataset,
# training, evaluation, pictures. What is there already is not done again.
#
#   bash tools/quickstart.sh
#
# MMATTN_VENV and PYTHON as in setup_env.sh.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/tools/setup_env.sh"
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
python=${MMATTN_VENV:-$root/.venv}/bin/python
config=configs/quickstart/mask_rcnn_sda_r50_toy.py
work_dir=work_dirs/quickstart
last=$work_dir/iter_450.pth

say() { printf '\n[quickstart] %s\n' "$*"; }

say 'dataset: 160 images to train on, 40 to evaluate on'
"$python" tools/make_toy_dataset.py data/toy --layout coco \
    --train 160 --val 40 --size 160
if [ -f "$last" ]; then
    say "trained already: $last"
else
    say 'training Mask R-CNN with a selective-depth-attention ResNet-50:' \
        '450 iterations of 4 images, some 10 minutes on 2 CPU cores'
    "$python" tools/train.py "$config" --work-dir "$work_dir" --resume
fi
log=$work_dir/evaluation.log
if [ -f "$log" ]; then
    say "evaluated already, see $log:"
    grep -E 'Average (Precision|Recall)|coco/' "$log"
else
    say 'evaluation on the 40 images it has not seen'
    "$python" tools/test.py "$config" "$last" --work-dir "$work_dir" \
        --show-dir "$root/$work_dir/predictions" | tee "$log.part"
    mv "$log.part" "$log"
fi
say "pictures, ground truth left and predictions right:" \
    "$work_dir/predictions/*.jpg"
