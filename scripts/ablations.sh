#!/usr/bin/env bash
# One of the paper's ablation tables on any data set, over several seeds.
#   SEEDS="42 43 44" bash scripts/ablations.sh loss --anno_path ANNS --video_path VIDEOS [flags]
# scripts/ablations.py lists the tables and what the environment may say.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$here/.venv/bin/python" ] && PATH="$here/.venv/bin:$PATH"
exec python "$here/scripts/ablations.py" "$@"
