#!/usr/bin/env bash
# GARE on VATEX. The paper does not report it: MSR-VTT's settings, our choice.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/vatex.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
DATATYPE=vatex
settings=(--max_words 32 --max_frames 12 --epochs 5 --correct text --context frames)
source "$(dirname "$0")/common.sh"
