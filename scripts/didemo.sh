#!/usr/bin/env bash
# GARE on DiDeMo, paragraph to video.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/didemo.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train didemo "$@"
