# Sourced by the scripts that train and evaluate; they read from the environment:
#   VIDEO_PATH  folder of videos that preprocess/compress_video.py wrote
#   ANNO_PATH   folder of annotation files (data/README.md)
#   OUTPUT      folder for checkpoints and results, ckpts/DATATYPE if not set
#   GPUS        processes, 4 for training if not set; the batch of 128 is over all of them
#   SMOKE=1     train on a made-up set in the benchmark's formats, on a CPU, in a minute;
#               everything goes to ckpts/smoke, or to OUTPUT/smoke if OUTPUT is set
# The settings are --preset paper's (tvr/presets.py); flags on the command line win over them.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$here/.venv/bin/python" ] && PATH="$here/.venv/bin:$PATH"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

# Stops with the usage in $1 unless both paths are set
require_paths() {
  [ -n "${VIDEO_PATH:-}" ] && [ -n "${ANNO_PATH:-}" ] && return
  for name in VIDEO_PATH ANNO_PATH; do
    [ -n "${!name:-}" ] || echo "$name is not set: data/README.md says what belongs there." >&2
  done
  echo "  $1" >&2
  exit 2
}

# main_retrieval.py in $1 processes. One needs no launcher, whose report would follow every message
launch() {
  local processes=$1
  shift
  if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
    echo "GPUS=$processes: give a whole number above 0." >&2
    exit 2
  elif [ "$processes" = 1 ]; then
    python "$here/main_retrieval.py" "$@"
  else
    python -m torch.distributed.run --standalone --nproc_per_node="$processes" \
      "$here/main_retrieval.py" "$@"
  fi
}

# Renders the made-up set in the formats of $1 under $2, and points the paths to it
make_smoke_data() {
  python "$here/preprocess/make_shapes.py" --output "$2/shapes" --train 24 --test 12
  python "$here/preprocess/compress_video.py" \
    --input_root "$2/shapes/videos" --output_root "$2/3fps_videos"
  ANNO_PATH=$2/shapes/anns VIDEO_PATH=$2/3fps_videos
  if [ "$1" != msrvtt ]; then
    python "$here/preprocess/shapes_formats.py" --datatype "$1" \
      --shapes "$2/shapes" --videos "$2/3fps_videos" --output "$2/$1"
    ANNO_PATH=$2/$1/anns VIDEO_PATH=$2/$1/videos
  fi
}

# Trains on a benchmark with its settings: train DATATYPE [more flags]
train() {
  local datatype=$1 output=${OUTPUT:-ckpts/$1} processes=${GPUS:-4}
  shift
  local settings=(--preset paper --datatype "$datatype")
  if [ "${SMOKE:-0}" = 1 ]; then
    local root=${OUTPUT:+$OUTPUT/smoke}
    root=${root:-ckpts/smoke}
    output=$root/$datatype processes=1
    make_smoke_data "$datatype" "$root/data"
    # Not --overwrite 1: an --output_dir on the command line may name a real run
    rm -f "$output"/checkpoint_{last,best}.pt "$output"/state_*.pt
    settings+=(
      --base_encoder tiny --num_hidden_layers 2 --device cpu --workers 1 --epochs 1
      --batch_size 8 --batch_size_val 8 --allow_partial_gallery 1
    )
  fi
  require_paths "ANNO_PATH=/data/$datatype/anns VIDEO_PATH=/data/$datatype/3fps_videos bash $0"
  launch "$processes" --do_train 1 --anno_path "$ANNO_PATH" --video_path "$VIDEO_PATH" \
    --output_dir "$output" "${settings[@]}" "$@"
}
