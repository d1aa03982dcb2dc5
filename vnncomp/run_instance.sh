#!/bin/bash
# One instance: run_instance.sh v1 BENCHMARK ONNX VNNLIB RESULTS TIMEOUT
set -euo pipefail

[ "$#" -ge 6 ] && [ "$1" = v1 ] || { echo "usage: run_instance.sh v1 BENCHMARK ONNX VNNLIB RESULTS TIMEOUT" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ ! -d "$here/.venv" ] || PATH=$here/.venv/bin:$PATH
exec kreludomain verify "$3" "$4" --results-file "$5" --timeout "$6"
