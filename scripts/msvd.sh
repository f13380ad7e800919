#!/usr/bin/env bash
# GARE on MSVD.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/msvd.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
DATATYPE=msvd
settings=(--max_words 32 --max_frames 12 --epochs 5 --correct text --context frames)
source "$(dirname "$0")/common.sh"
