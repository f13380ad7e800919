#!/usr/bin/env bash
# GARE on ActivityNet Captions, paragraph to video: the video is corrected, ψ attends to words.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/activitynet.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train activity "$@"
