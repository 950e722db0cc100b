#!/usr/bin/env bash
# What a machine with a GPU is asked for: a large detector and its grader with three seeds each, and
# the benchmarks with the share of time that the GPU is busy. `make gpu` calls it.
#
#   CRIC=…/cric RESNET50=resnet50-11ad3fa6.pth OUT=runs/gpu benchmarks/gpu.sh
#
# STEPS=2 EPOCHS=1 SEEDS=0 FOLDS=2 DEVICE=cpu tries all of it in minutes on a CPU, for its words, not
# for its figures, in runs/gpu-trial. What is done is not done again: start it anew after an
# interruption; what lies there and was made with other settings ends it.
set -euo pipefail
cd "$(dirname "$0")/.."

CRIC=${CRIC:?the folder of train.json, val.json, train/ and val/}
RESNET50=${RESNET50:-}  # without a file the backbone begins with random weights
default=runs/gpu
[ -z "${STEPS:-}${EPOCHS:-}" ] || default=runs/gpu-trial
OUT=${OUT:-$default}
SEEDS=${SEEDS:-0 1 2}
FOLDS=${FOLDS:-5}
DEVICE=${DEVICE:-gpu}
GRADER_BACKBONE=${GRADER_BACKBONE:-resnet50}
GRADER_WEIGHTS=${GRADER_WEIGHTS:-}
if [ "$GRADER_BACKBONE" = resnet50 ]; then GRADER_WEIGHTS=${GRADER_WEIGHTS:-$RESNET50}; fi
SIDES=${SIDES:-6000,12000,24000}
PYTHON=${PYTHON:-python}
shorter=()
[ -z "${STEPS:-}" ] || shorter+=(--set "loop.steps=$STEPS" --set loop.batch_size=2 --set loop.workers=0)
[ -z "${EPOCHS:-}" ] || shorter+=(--set "loop.epochs=$EPOCHS")
weights=()
[ -z "$RESNET50" ] || weights=(--set "model.backbone_weights=$RESNET50")
mkdir -p "$OUT"

made_with() {  # what is made, the file beside that says with what, with what now; false: make it
  local made=$1 file=$2; shift 2
  local now; now=$(printf '%s\n' "$@")
  if [ -e "$file" ] && [ "$(cat "$file")" != "$now" ]; then
    echo "$file: what lies beside it was made with other settings than those of now;" \
      "remove both, or name another OUT" >&2
    exit 2
  fi
  if [ -e "$made" ] && [ ! -e "$file" ]; then
    echo "$made: nothing says what it was made with; remove it, or name another OUT" >&2
    exit 2
  fi
  mkdir -p "$(dirname "$file")"
  echo "$now" > "$file"
  [ -e "$made" ]
}

train() {  # preset, folder, further options
  local preset=$1 folder=$2; shift 2
  if made_with "$folder/model/model.json" "$folder/made_with.txt" "$preset" "${shorter[@]}" "$@"; then
    echo "$folder: is there"; return
  fi
  local resume=()
  [ ! -f "$folder/checkpoints/last.ckpt" ] || resume=(--resume)
  "$PYTHON" benchmarks/gpu_busy.py "$PYTHON" -m scripts train --config "$preset" --out "$folder" \
    --set "loop.device=$DEVICE" "${shorter[@]}" "$@" "${resume[@]}"
}

fields=(--set "data.train.annotations=$CRIC/train.json" --set "data.train.images=$CRIC/train"
  --set "data.val.annotations=$CRIC/val.json" --set "data.val.images=$CRIC/val")

"$PYTHON" -m scripts doctor
for seed in $SEEDS; do
  train train/cric-teacher "$OUT/detector-$seed" "${fields[@]}" "${weights[@]}" --set "loop.seed=$seed"
  "$PYTHON" -m scripts evaluate --model "$OUT/detector-$seed/model" --data "$CRIC/val.json" \
    --images "$CRIC/val" --out "$OUT/detector-$seed/evaluation"
done

# What the detector finds on fields that it has not learned from: the grader's background.
made_with "$OUT/folds.csv" "$OUT/folds.txt" "$CRIC" "$FOLDS" || "$PYTHON" -m scripts data split "$CRIC/train.json" --images "$CRIC/train" \
  --by slide --folds "$FOLDS" --out "$OUT/folds.csv"
source_of() { echo "{name: fold$1, annotations: $CRIC/train.json, images: $CRIC/train, split: $OUT/folds.csv, part: fold$1}"; }
candidates=""
for fold in $(seq "$FOLDS"); do
  others=""
  for other in $(seq "$FOLDS"); do
    [ "$other" = "$fold" ] || others="$others${others:+, }$(source_of "$other")"
  done
  train train/cric-teacher "$OUT/fold-$fold" "${weights[@]}" --set "data.train=[$others]" \
    --set "data.val=$(source_of "$fold")"
  candidates="$candidates${candidates:+, }$OUT/fold-$fold"
done
for seed in $SEEDS; do
  train train/grader "$OUT/grader-$seed" "${fields[@]}" --set "detector=$OUT/detector-$seed/model" \
    --set "candidates=[$candidates]" --set "grader.backbone=$GRADER_BACKBONE" --set "loop.seed=$seed" \
    ${GRADER_WEIGHTS:+--set "grader.backbone_weights=$GRADER_WEIGHTS"}
  "$PYTHON" -m scripts evaluate --model "$OUT/grader-$seed/model" --data "$CRIC/val.json" \
    --images "$CRIC/val" --out "$OUT/grader-$seed/evaluation"
done

for model in cric-fcos-mobilenet-v2 "$OUT/detector-${SEEDS%% *}/model"; do
  "$PYTHON" benchmarks/gpu_busy.py "$PYTHON" benchmarks/bench_runtime.py --model "$model"
  "$PYTHON" benchmarks/gpu_busy.py "$PYTHON" benchmarks/bench_screen.py --sides "$SIDES" --model "$model"
done
