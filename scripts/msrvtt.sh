#!/usr/bin/env bash
# Trains GARE on MSR-VTT (9k training, 1k-A test) with the paper's settings.
#   VIDEO_PATH=/data/msrvtt/3fps_videos bash scripts/msrvtt.sh [more flags]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$here/.venv/bin/torchrun" ] && PATH="$here/.venv/bin:$PATH"

if [ -z "${VIDEO_PATH:-}" ]; then
  echo "VIDEO_PATH is not set: name the folder of videos that preprocess/compress_video.py wrote," >&2
  echo "  VIDEO_PATH=/data/msrvtt/3fps_videos bash scripts/msrvtt.sh" >&2
  exit 2
fi
ANNO_PATH=${ANNO_PATH:-$here/data/MSR-VTT/anns}
OUTPUT=${OUTPUT:-ckpts/msrvtt}
GPUS=${GPUS:-4}  # batch 128 is over all of them

torchrun --standalone --nproc_per_node="$GPUS" "$here/main_retrieval.py" \
  --do_train 1 --workers 8 --n_display 50 --epochs 5 --lr 1e-4 --coef_lr 1e-3 \
  --batch_size 128 --batch_size_val 128 --base_encoder ViT-B/32 \
  --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" --datatype msrvtt \
  --max_words 32 --max_frames 12 --video_framerate 1 --output_dir "$OUTPUT" \
  --correct text --context frames --temp 3 --alpha 2 --beta 0.07 \
  --lambda_dir 0.01 --lambda_epsilon 0.01 --lambda_lower 0.5 --seed 42 "$@"
