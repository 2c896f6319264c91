#!/usr/bin/env bash
# Installs a folder's locked npm packages, unless they are installed already:
#   node.sh PYTHON FOLDER         into the folder itself
#   node.sh PYTHON FOLDER INTO    into another folder
#   node.sh PYTHON FOLDER lock    writes the lock anew from package.json, and installs nothing
set -euo pipefail
python=$(realpath -s "$1") folder=$2 into=${3:-$2}
# shellcheck source=requirements/npm.sh
. "$(dirname "$0")/npm.sh"

if [ "$into" = lock ]; then
  cd "$folder"
  npm install --package-lock-only
  exit
fi
if [ "$into" != "$folder" ]; then
  mkdir -p "$into"
  cp "$folder"/package.json "$folder"/package-lock.json "$folder"/.npmrc "$into"
fi
cd "$into"
wanted=$(cat package-lock.json .npmrc | sha256sum | cut -d' ' -f1)
stamp=node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
npm ci
echo "$wanted" > "$stamp"
