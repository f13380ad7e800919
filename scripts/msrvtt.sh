#!/usr/bin/env bash
# GARE on MSR-VTT: 9k training videos, 1k-A test.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/msrvtt.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train msrvtt "$@"
