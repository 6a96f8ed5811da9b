#!/usr/bin/env bash
# Measure the CPU rows of docs/benchmarks.md, one target after the other:
#   bash tools/benchmarks.sh [OUT]         # all; OUT: docs/benchmarks
#   TARGETS="1 4" bash tools/benchmarks.sh # some; of target 2, 2c are the
#                                          # attentions compiled, 2w networks
# Needs mmpretrain (target 1), timm (2) and matplotlib, and a quiet machine.
# For GPU rows: ARGUMENTS='--device cuda' bash tools/benchmarks.sh OUT
set -euo pipefail
cd "$(dirname "$0")/.."

# On a CPU: keep memory that is freed. glibc gives it back, and the page faults
# of thousands of pages a step, more or fewer by the order in which maps are
# freed, would outweigh what an attention costs.
export MALLOC_TRIM_THRESHOLD_=$((1 << 40)) MALLOC_MMAP_THRESHOLD_=$((1 << 25))

OUT=${1:-docs/benchmarks}
TARGETS=${TARGETS:-1 2 2c 2w 3 4 5 6}
THREADS=${THREADS:-2}
ROUNDS=${ROUNDS:-20}
mkdir -p "$OUT"

measure() {  # name, candidates, then options
  local name=$1
  shift
  echo "== $name"
  # shellcheck disable=SC2086
  python tools/benchmark.py "$@" --rounds "$ROUNDS" --threads "$THREADS" \
    --csv "$OUT/$name.csv" --markdown "$OUT/$name.md" ${ARGUMENTS:-}
}

net() {  # label, words: a ResNet-50 with words
  echo "$1 := mmattn.ResNet(depth=50${2:+, $2})"
}

attended() {  # label, type with options
  net "$1" "attention=dict(type=$2)"
}

theirs() {  # label, name of the attention in timm
  echo "$1 := timm:resnet50(num_classes=0, global_pool=\"\"${2:+,
    block_args=dict(attn_layer=\"$2\")})" | tr -d '\n'
}

DEPTHS='depth_fusion=dict(type="SelectiveFusion", ratio=16, min_channels=64)'
STACKED=mmattn.benchmark.baselines:stacked_sda

# The networks of target 3: one attention each on one trunk.
ATTENDED=(
  "$(net plain)" "$(attended SE '"SE"')" "$(attended ECA '"ECA"')"
  "$(attended GE '"GE"')" "$(attended GC '"GC"')"
  "$(attended CBAM '"CBAM"')" "$(attended Coord '"CoordAttention"')"
)

# Those of target 2, of which only the last map is kept, with ratios as near
# to timm's as they come; it has no such SK, and no GE that can be asked for
# by name.
one() {  # label, type with options
  net "$1" "out_indices=(3, )${2:+, attention=dict(type=$2)}"
}

PAIRS=(  # ours right behind timm's
  "$(theirs 'timm plain')" "$(one plain)"
  "$(theirs 'timm SE' se)" "$(one SE '"SE"')"
  "$(theirs 'timm ECA' eca)" "$(one ECA '"ECA"')"
  "$(theirs 'timm GC' gca)" "$(one GC '"GC", ratio=8')"
  "$(theirs 'timm CBAM' cbam)" "$(one CBAM '"CBAM"')"
  "$(theirs 'timm Coord' coord)" "$(one Coord '"CoordAttention", ratio=24')"
)
OVER=(--baseline 'timm plain' 'timm SE' 'timm ECA' 'timm GC' 'timm CBAM'
      'timm Coord')

target1() {  # the plain trunk against mmpretrain's
  local resnet='depth=50, out_indices=(0, 1, 2, 3)'
  measure 1_resnet50 \
    "mmpretrain := mmpretrain.ResNet($resnet)" \
    "mmattn := mmattn.ResNet($resnet)" --batch 2
  measure 1_mobilenetv2 \
    'mmpretrain := mmpretrain.MobileNetV2()' \
    'mmattn := mmattn.MobileNetV2()' --batch 2
}

target2() {  # networks against timm's; those that it lacks over plain ones
  measure 2_timm "${PAIRS[@]}" "${OVER[@]}" --batch 2 \
    --plot "$OUT/2_timm.png"
  measure 2_others "$(one plain)" "$(one GE '"GE"')" \
    'SK := mmattn.SKNet(depth=50, out_indices=(3, ))' --batch 2
  measure 2_timm_ge \
    'timm GE := timm.layers:GatherExcite(256, use_mlp=False)' \
    'GE := part:GE(in_channels=256)' \
    --input 56x56 --channels 256 --batch 2
}

target2w() {  # whole networks, compiled
  measure 2_timm_networks_compiled "${PAIRS[@]}" "${OVER[@]}" --batch 2 \
    --mode inference --compile on
}

target2c() {  # the attentions alone, compiled
  local timm='timm.layers'
  measure 2_timm_compiled \
    "timm SE := $timm:SEModule(256)" 'SE := part:SE(in_channels=256)' \
    "timm ECA := $timm:EcaModule(256)" 'ECA := part:ECA(in_channels=256)' \
    "timm GC := $timm:GlobalContext(256)" \
    'GC := part:GC(in_channels=256, ratio=8)' \
    "timm CBAM := $timm.cbam:CbamModule(256)" \
    'CBAM := part:CBAM(in_channels=256)' \
    "timm Coord := $timm.coord_attn:CoordAttn(256)" \
    'Coord := part:CoordAttention(in_channels=256, ratio=24)' \
    --baseline 'timm SE' 'timm ECA' 'timm GC' 'timm CBAM' 'timm Coord' \
    --input 56x56 --channels 256 --batch 2 --compile on
}

target3() {  # what each attention costs, in copies of its maps
  measure 3_floor_224 "${ATTENDED[@]}" \
    --batch 2 --mode inference --bandwidth
  measure 3_floor_800 "${ATTENDED[@]}" \
    --input 800x1344 --mode inference --bandwidth
}

target4() {  # depth attention against its published formulation
  measure 4_sda86 \
    'trunk := mmattn.ResNet(depth=86, groups=8)' \
    "mmattn := mmattn.ResNet(depth=86, groups=8, $DEPTHS)" \
    "published := $STACKED(depth=86, groups=8)" --batch 2
}

target5() {  # links over their attentions, and fusions over addition
  local link='link=dict(type="DCA")' kind
  for kind in SE ECA GE; do
    measure "5_dca_${kind,,}" \
      "$(attended "$kind" "\"$kind\"")" \
      "$(net "DCA-$kind" "attention=dict(type=\"$kind\"), $link")" \
      --batch 2
  done
  measure 5_aff "$(net plain)" \
    "$(net AFF 'fusion=dict(type="AFF", ratio=16)')" \
    "$(net iAFF 'fusion=dict(type="IAFF", ratio=16)')" --batch 2
}

target6() {  # one stage of 3 to 24 blocks
  local one='num_stages=1, strides=[1], dilations=[1], out_indices=[0]'
  local n candidates=()
  for n in 3 6 12 18 24; do
    candidates+=(
      "trunk/$n := mmattn.ResNet(depth=[$n], groups=8, $one)"
      "mmattn/$n := mmattn.ResNet(depth=[$n], groups=8, $one, $DEPTHS)"
      "published/$n := $STACKED(depth=[$n], groups=8, $one)")
  done
  measure 6_depths "${candidates[@]}" --batch 2 \
    --baseline trunk/3 trunk/6 trunk/12 trunk/18 trunk/24 \
    --plot "$OUT/6_depths.png" --plot-x depth --plot-y time
}

for target in $TARGETS; do
  "target$target"
done
