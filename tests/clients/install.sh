#!/usr/bin/env bash
# Installs the client programs, each set into an environment of its own below INTO, unless they are there already:
#   install.sh PYTHON INTO [long]
# With `long` those of make test-long, which take minutes.
set -euo pipefail
python=$(realpath -s "$1") into=$2
here=$(cd "$(dirname "$0")" && pwd)
locks=$here/python/environments${3:+/$3}

install() { # install NAME: the set that NAME.lock locks
  local lock=$locks/$1.lock environment=$into/$1 wanted
  wanted=$(sha256sum < "$lock")
  if [ "$(cat "$environment/.installed" 2>/dev/null)" = "$wanted" ]; then return; fi
  rm -rf "$environment"
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$lock"
  echo "$wanted" > "$environment/.installed"
}

mkdir -p "$into"
running=()
for lock in "$locks"/*.lock; do
  install "$(basename "$lock" .lock)" & running+=($!)
done
if [ $# -lt 3 ]; then "$here/../../requirements/node.sh" "$python" "$here/node"; fi
for one in "${running[@]}"; do wait "$one"; done
