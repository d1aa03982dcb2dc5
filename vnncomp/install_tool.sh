#!/bin/bash
# Installs kreludomain for the verifier competition: install_tool.sh v1
set -euo pipefail

[ "${1:-}" = v1 ] || { echo "usage: install_tool.sh v1" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v cc > /dev/null || ! python3 -c "import ensurepip" 2> /dev/null; then
    if [ "$(id -u)" -eq 0 ]; then sudo=(); else sudo=(sudo); fi
    "${sudo[@]}" apt-get update
    "${sudo[@]}" apt-get install -y python3 python3-venv python3-dev build-essential
fi
# pip says so where this Python is older than 3.11.
python3 -m venv "$here/.venv"
"$here/.venv/bin/pip" install -c "$here/../constraints.txt" "$here/.."
"$here/.venv/bin/kreludomain" --version
