#!/usr/bin/env bash
# The whole of GARE on a made-up data set, on a CPU, in minutes: data, compression, training,
# evaluation, and the same for the baseline. `make demo` runs it; every step can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."

DEMO=${DEMO:-ckpts/demo}
DATA=$DEMO/data
# Half of the cores compute, the other half decode: more threads would only wait for each other
CORES=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
HALF=$(( CORES < 2 ? 1 : CORES / 2 ))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$HALF}
WORKERS=$(( HALF < 8 ? HALF : 8 ))

python preprocess/make_shapes.py --output "$DATA" --train 800 --test 200 --seed 0
python preprocess/compress_video.py --input_root "$DATA/videos" --output_root "$DATA/videos_3fps"

# The gallery has 200 videos where MSR-VTT's has 1,000, hence --allow_partial_gallery.
# RandAugment would change colours and directions, which the captions name.
common=(
  --anno_path "$DATA/anns" --video_path "$DATA/videos_3fps" --datatype msrvtt
  --allow_partial_gallery 1 --base_encoder tiny --num_hidden_layers 2
  --max_words 24 --max_frames 2 --batch_size_val 64 --workers "$WORKERS" --device cpu
)
training=(
  --do_train 1 --overwrite 1 --epochs 4 --batch_size 32 --lr 6e-4 --coef_lr 1
  --randaugment none --n_display 50 --seed 42
)
python main_retrieval.py "${training[@]}" "${common[@]}" --output_dir "$DEMO/gare"
python main_retrieval.py "${training[@]}" "${common[@]}" --output_dir "$DEMO/baseline" --increment none

# The saved checkpoint, evaluated by a new process, as anyone would use it
python main_retrieval.py --do_eval 1 --init_model "$DEMO/gare/checkpoint_last.pt" "${common[@]}" \
  --output_dir "$DEMO/evaluation" --contact_sheet 12

python scripts/demo_report.py "$DEMO"
