#!/usr/bin/env bash
# GARE on LSMDC, which the paper does not report.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/lsmdc.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train lsmdc "$@"
