#!/usr/bin/env bash
# Lints and formats the playground's JavaScript and CSS: biome.sh PYTHON check|... [OPTIONS, FILES]; biome.jsonc says how.
# Biome comes from npm, locked in requirements/lint; the first call installs it into that Python's environment.
set -euo pipefail
python=$(realpath -s "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=requirements/npm.sh
. "$here/npm.sh"
installed=$("$python" -c 'import sys; print(sys.prefix)')/lint
"$here/node.sh" "$python" "$here/lint" "$installed"
node "$installed/node_modules/@biomejs/biome/bin/biome" "$@"
