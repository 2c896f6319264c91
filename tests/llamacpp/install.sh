#!/usr/bin/env bash
# Builds llama.cpp's server from PyPI, which takes many minutes, into an environment of its own, unless it is there:
#   install.sh PYTHON INTO
set -euo pipefail
python=$(realpath -s "$1") into=$2
lock=$(cd "$(dirname "$0")" && pwd)/llamacpp.lock
wanted=$(sha256sum < "$lock")
if [ "$(cat "$into/.installed" 2>/dev/null)" = "$wanted" ]; then exit; fi
rm -rf "$into"
"$python" -m venv "$into"
"$into/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$lock"
echo "$wanted" > "$into/.installed"
