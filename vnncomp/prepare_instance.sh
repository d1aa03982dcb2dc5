#!/bin/bash
# Before an instance: prepare_instance.sh v1 BENCHMARK ONNX VNNLIB
# Nothing is converted. The command is started once, so that the instance finds its libraries in the file cache.
set -euo pipefail

[ "$#" -ge 4 ] && [ "$1" = v1 ] || { echo "usage: prepare_instance.sh v1 BENCHMARK ONNX VNNLIB" >&2; exit 1; }

for file in "$3" "$4"; do
    [ -f "$file" ] || { echo "prepare_instance.sh: $file: no such file" >&2; exit 1; }
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ ! -d "$here/.venv" ] || PATH=$here/.venv/bin:$PATH
exec kreludomain --version
