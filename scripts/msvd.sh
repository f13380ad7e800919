#!/usr/bin/env bash
# GARE on MSVD.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/msvd.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train msvd "$@"
