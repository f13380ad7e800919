#!/usr/bin/env bash
# GARE on VATEX, which the paper does not report.
#   ANNO_PATH=… VIDEO_PATH=… bash scripts/vatex.sh [more flags]   (scripts/common.sh lists the rest)
set -euo pipefail
source "$(dirname "$0")/common.sh"
train vatex "$@"
