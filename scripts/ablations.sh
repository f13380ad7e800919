#!/usr/bin/env bash
# One of the paper's ablation tables on any data set, over several seeds.
#   ANNO_PATH=… VIDEO_PATH=… SEEDS="42 43 44" bash scripts/ablations.sh loss [training flags]
# --help lists the tables and what the environment may say.
set -euo pipefail
source "$(dirname "$0")/common.sh"
exec python -m scripts.ablations "$@"
