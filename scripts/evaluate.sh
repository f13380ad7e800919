#!/usr/bin/env bash
# Evaluates a checkpoint, or without one CLIP alone (zero-shot), on DATATYPE (msrvtt if not set).
#   ANNO_PATH=… VIDEO_PATH=… DATATYPE=didemo GPUS=2 bash scripts/evaluate.sh [CHECKPOINT] [more flags]
# Ours carries its settings. RELEASE=1: one of the authors', which gets the benchmark's settings.
# Results go to OUTPUT, ckpts/DATATYPE_evaluation if not set.
set -euo pipefail
source "$(dirname "$0")/common.sh"
require_paths "ANNO_PATH=… VIDEO_PATH=… bash $0 [CHECKPOINT] [more flags]"
DATATYPE=${DATATYPE:-msrvtt}

checkpoint=()
if [ $# -gt 0 ] && [[ $1 != --* ]]; then
  checkpoint=(--init_model "$1")
  shift
fi

if [ "${RELEASE:-0}" = 1 ]; then
  if [ ${#checkpoint[@]} = 0 ]; then
    echo "RELEASE=1 without a checkpoint: name the authors' file first." >&2
    exit 2
  fi
  settings=(--preset release)
elif [ ${#checkpoint[@]} = 0 ]; then
  settings=(--preset paper)
else
  settings=()
fi

launch "${GPUS:-1}" --do_eval 1 --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" \
  --output_dir "${OUTPUT:-ckpts/${DATATYPE}_evaluation}" \
  --datatype "$DATATYPE" ${settings[@]+"${settings[@]}"} ${checkpoint[@]+"${checkpoint[@]}"} "$@"
