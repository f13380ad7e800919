#!/usr/bin/env bash
# Evaluates a checkpoint, ours or the authors', on MSR-VTT 1k-A.
#   VIDEO_PATH=/data/msrvtt/3fps_videos bash scripts/evaluate.sh CHECKPOINT [more flags]
# For a checkpoint of the authors' release add: --padding release --temp 3
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$here/.venv/bin/torchrun" ] && PATH="$here/.venv/bin:$PATH"

if [ -z "${VIDEO_PATH:-}" ] || [ $# -lt 1 ]; then
  echo "usage: VIDEO_PATH=/data/msrvtt/3fps_videos bash scripts/evaluate.sh CHECKPOINT [more flags]" >&2
  [ -n "${VIDEO_PATH:-}" ] || echo "VIDEO_PATH is not set: name the folder of compressed videos." >&2
  exit 2
fi
CHECKPOINT=$1
shift
ANNO_PATH=${ANNO_PATH:-$here/data/MSR-VTT/anns}
OUTPUT=${OUTPUT:-ckpts/msrvtt_evaluation}
GPUS=${GPUS:-1}

torchrun --standalone --nproc_per_node="$GPUS" "$here/main_retrieval.py" \
  --do_eval 1 --init_model "$CHECKPOINT" --workers 8 --batch_size_val 128 \
  --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" --datatype msrvtt \
  --output_dir "$OUTPUT" "$@"
