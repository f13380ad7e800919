#!/usr/bin/env bash
# Tells methods apart on the harder made-up set: renders it, pretrains a small CLIP on its stills, as
# the real one was on pictures, and trains the rows of an ablation table from there.
#   SEEDS="1 2 3 4 5" bash scripts/study.sh [TABLE [more flags]]    (TABLE: methods if not given)
# From the environment: STUDY, the folder for all of it (ckpts/study); SEEDS ("42 43 44 45 46");
# AT_ONCE, the seeds that train at the same time (1); DEVICE, cpu or cuda (cpu); OUTPUT (STUDY/tables),
# LAUNCHER and KEEP as in scripts/ablations.sh. Finished steps and trainings are not done again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"

STUDY=${STUDY:-ckpts/study}
SEEDS=${SEEDS:-42 43 44 45 46}
DATA=$STUDY/data
PRETRAINED=$STUDY/pretrained
table=${1:-methods}
[ $# = 0 ] || shift
# not grep -q: it may end before the list is printed, which then counts as a failure
if ! python -m scripts.ablations --help | grep -x "$table" > /dev/null; then
  echo "no table $table: python -m scripts.ablations --help lists them." >&2
  exit 2
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [ ! -e "$DATA/compressed" ]; then
  python preprocess/make_scenes.py --output "$DATA" --train 2000 --test 1000 --pretrain 3000 --seed 0
  for part in "$DATA" "$DATA/pretrain"; do
    python preprocess/compress_video.py --short_side 112 \
      --input_root "$part/videos" --output_root "$part/videos_3fps"
  done
  touch "$DATA/compressed"
fi
for part in "$DATA/pretrain 1" "$DATA 8"; do  # with all cores, before trainings with one process each
  python -m tvr.dataloaders.cache --frame_cache "$STUDY/cache" --datatype msrvtt \
    --allow_partial_gallery 1 --base_encoder tiny --max_frames "${part##* }" \
    --anno_path "${part% *}/anns" --video_path "${part% *}/videos_3fps"
done

# The gallery has not MSR-VTT's size in pretraining, hence --allow_partial_gallery. RandAugment would
# change colours and directions, which captions name. fp32 on a GPU, too: so is a CPU's.
common=(
  --datatype msrvtt --allow_partial_gallery 1 --max_words 40 --batch_size 64 --batch_size_val 64
  --lr 6e-4 --workers 1 --device "${DEVICE:-cpu}" --precision fp32 --randaugment none
  --frame_cache "$STUDY/cache"
)
if [ ! -e "$PRETRAINED/metrics.json" ]; then
  python main_retrieval.py --do_train 1 --anno_path "$DATA/pretrain/anns" \
    --video_path "$DATA/pretrain/videos_3fps" --output_dir "$PRETRAINED" --resume auto \
    --base_encoder tiny --max_frames 1 --agg_module None --increment none --coef_lr 1 --epochs 4 \
    "${common[@]}"
fi

export ANNO_PATH=$DATA/anns VIDEO_PATH=$DATA/videos_3fps OUTPUT=${OUTPUT:-$STUDY/tables} DATATYPE=msrvtt
arguments=(
  "$table" --base_encoder "$PRETRAINED/checkpoint_last.pt" --num_hidden_layers 2 --max_frames 8
  --coef_lr 0.1 --epochs 4 --log_increment 1 "${common[@]}" "$@"
)
if [ "${AT_ONCE:-1}" != 1 ]; then
  for seed in $SEEDS; do echo "$seed"; done |
    xargs -P "$AT_ONCE" -I{} env SEEDS={} bash scripts/ablations.sh "${arguments[@]}"
fi
SEEDS=$SEEDS bash scripts/ablations.sh "${arguments[@]}"
