#!/usr/bin/env bash
# Installs the client programs, each set into an environment of its own below INTO, unless they are there already:
#   install.sh PYTHON INTO
set -euo pipefail
python=$(realpath -s "$1") into=$2
here=$(cd "$(dirname "$0")" && pwd)

install() { # install NAME: the set that python/environments/NAME.lock locks
  local lock=$here/python/environments/$1.lock environment=$into/$1 wanted
  wanted=$(sha256sum < "$lock")
  if [ "$(cat "$environment/.installed" 2>/dev/null)" = "$wanted" ]; then return; fi
  rm -rf "$environment"
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$lock"
  echo "$wanted" > "$environment/.installed"
}

mkdir -p "$into"
running=()
for lock in "$here"/python/environments/*.lock; do
  install "$(basename "$lock" .lock)" & running+=($!)
done
"$here/../../requirements/node.sh" "$python" "$here/node"
for one in "${running[@]}"; do wait "$one"; done
