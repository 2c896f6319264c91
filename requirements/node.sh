#!/usr/bin/env bash
# Installs a folder's locked npm packages: node.sh PYTHON FOLDER [lock]. Does nothing when they are there.
# With `lock` it writes the lock anew from package.json instead.
set -euo pipefail
python=$(realpath -s "$1")
# shellcheck source=requirements/npm.sh
. "$(dirname "$0")/npm.sh"
cd "$2"

if [ "${3:-}" = lock ]; then
    npm install --package-lock-only
    exit
fi
wanted=$(cat package-lock.json .npmrc | sha256sum | cut -d' ' -f1)
stamp=node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
npm ci
echo "$wanted" > "$stamp"
