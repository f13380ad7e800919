# Sourced by one script per benchmark, which sets DATATYPE and the array `settings`.
#   VIDEO_PATH  folder of videos that preprocess/compress_video.py wrote
#   ANNO_PATH   folder of annotation files (data/README.md)
#   OUTPUT      folder for checkpoints, ckpts/DATATYPE if not set
#   GPUS        processes, 4 if not set; the batch of 128 is over all of them
#   SMOKE=1     the same code on a made-up set in the benchmark's formats, on a CPU, in a minute
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$here/.venv/bin/torchrun" ] && PATH="$here/.venv/bin:$PATH"
OUTPUT=${OUTPUT:-ckpts/$DATATYPE}

# Settings of the paper that all benchmarks share
settings=(
  --do_train 1 --datatype "$DATATYPE" --base_encoder ViT-B/32 --workers 8 --n_display 50
  --lr 1e-4 --coef_lr 1e-3 --batch_size 128 --batch_size_val 128 --video_framerate 1
  --temp 3 --alpha 2 --beta 0.07 --lambda_dir 0.01 --lambda_epsilon 0.01 --lambda_lower 0.5
  --seed 42 "${settings[@]}"
)

if [ "${SMOKE:-0}" = 1 ]; then
  data=$OUTPUT/smoke
  python "$here/preprocess/make_shapes.py" --output "$data/shapes" --train 24 --test 12
  python "$here/preprocess/compress_video.py" \
    --input_root "$data/shapes/videos" --output_root "$data/3fps_videos"
  if [ "$DATATYPE" = msrvtt ]; then
    ANNO_PATH=$data/shapes/anns VIDEO_PATH=$data/3fps_videos
  else
    python "$here/preprocess/shapes_formats.py" --datatype "$DATATYPE" \
      --shapes "$data/shapes" --videos "$data/3fps_videos" --output "$data/$DATATYPE"
    ANNO_PATH=$data/$DATATYPE/anns VIDEO_PATH=$data/$DATATYPE/videos
  fi
  # A later flag wins over an earlier one: the benchmark's own settings stay, the size shrinks
  settings+=(
    --base_encoder tiny --num_hidden_layers 2 --device cpu --workers 1 --epochs 1
    --batch_size 8 --batch_size_val 8 --max_frames 3 --allow_partial_gallery 1 --overwrite 1
  )
  GPUS=1
fi

if [ -z "${VIDEO_PATH:-}" ] || [ -z "${ANNO_PATH:-}" ]; then
  for name in VIDEO_PATH ANNO_PATH; do
    [ -n "${!name:-}" ] || echo "$name is not set: data/README.md says what belongs there." >&2
  done
  echo "  ANNO_PATH=/data/$DATATYPE/anns VIDEO_PATH=/data/$DATATYPE/3fps_videos bash $0" >&2
  exit 2
fi

torchrun --standalone --nproc_per_node="${GPUS:-4}" "$here/main_retrieval.py" \
  --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" --output_dir "$OUTPUT" \
  "${settings[@]}" "$@"
