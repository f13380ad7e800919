#!/usr/bin/env bash
# GARE on DiDeMo, paragraph to video.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/didemo.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
DATATYPE=didemo
settings=(--max_words 64 --max_frames 64 --epochs 5 --correct text --context frames)
source "$(dirname "$0")/common.sh"
