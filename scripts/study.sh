#!/usr/bin/env bash
# Tells methods apart on the harder made-up set, on a CPU: renders it, pretrains a small CLIP on its
# stills, as the real one was on pictures, and trains the rows of an ablation table from there.
#   SEEDS="1 2 3 4 5" bash scripts/study.sh [TABLE [more flags]]    (TABLE: methods if not given)
# From the environment: STUDY, the folder for all of it (ckpts/study), SEEDS ("42 43 44 45 46"), and
# LAUNCHER and KEEP as in scripts/ablations.sh. Finished steps and trainings are not done again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"

STUDY=${STUDY:-ckpts/study}
DATA=$STUDY/data
PRETRAINED=$STUDY/pretrained
table=${1:-methods}
[ $# = 0 ] || shift
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

python preprocess/make_scenes.py --output "$DATA" --train 2000 --test 1000 --pretrain 3000 --seed 0
for part in "$DATA" "$DATA/pretrain"; do
  python preprocess/compress_video.py --input_root "$part/videos" --output_root "$part/videos_3fps"
done

# The gallery has not MSR-VTT's size in pretraining, hence --allow_partial_gallery. RandAugment would
# change colours and directions, which captions name.
common=(
  --datatype msrvtt --allow_partial_gallery 1 --max_words 40 --batch_size 64 --batch_size_val 64
  --lr 6e-4 --workers 1 --device cpu --randaugment none --frame_cache "$STUDY/cache"
)
if [ ! -e "$PRETRAINED/metrics.json" ]; then
  python main_retrieval.py --do_train 1 --anno_path "$DATA/pretrain/anns" \
    --video_path "$DATA/pretrain/videos_3fps" --output_dir "$PRETRAINED" --resume auto \
    --base_encoder tiny --max_frames 1 --agg_module None --increment none --coef_lr 1 --epochs 4 \
    "${common[@]}"
fi

ANNO_PATH=$DATA/anns VIDEO_PATH=$DATA/videos_3fps OUTPUT=$STUDY/tables DATATYPE=msrvtt \
  SEEDS=${SEEDS:-42 43 44 45 46} bash scripts/ablations.sh "$table" \
  --base_encoder "$PRETRAINED/checkpoint_last.pt" --num_hidden_layers 2 --max_frames 8 \
  --coef_lr 0.1 --epochs 4 --log_increment 1 "${common[@]}" "$@"
