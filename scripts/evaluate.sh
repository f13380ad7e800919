#!/usr/bin/env bash
# Evaluates a checkpoint, ours or the authors', on the benchmark DATATYPE (msrvtt if not set).
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/evaluate.sh CHECKPOINT [more flags]
# For a checkpoint of the authors' release add: --padding release --temp 3
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$here/.venv/bin/torchrun" ] && PATH="$here/.venv/bin:$PATH"

if [ -z "${VIDEO_PATH:-}" ] || [ -z "${ANNO_PATH:-}" ] || [ $# -lt 1 ]; then
  for name in VIDEO_PATH ANNO_PATH; do
    [ -n "${!name:-}" ] || echo "$name is not set: data/README.md says what belongs there." >&2
  done
  echo "usage: ANNO_PATH=… VIDEO_PATH=… bash scripts/evaluate.sh CHECKPOINT [more flags]" >&2
  exit 2
fi
CHECKPOINT=$1
shift
DATATYPE=${DATATYPE:-msrvtt}

torchrun --standalone --nproc_per_node="${GPUS:-1}" "$here/main_retrieval.py" \
  --do_eval 1 --init_model "$CHECKPOINT" --workers 8 --batch_size_val 128 \
  --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" --datatype "$DATATYPE" \
  --output_dir "${OUTPUT:-ckpts/${DATATYPE}_evaluation}" "$@"
