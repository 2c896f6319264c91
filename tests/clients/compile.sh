#!/usr/bin/env bash
# Writes the locks of the client programs' environments. Run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/python/environments"
for wanted in *.in long/*.in; do
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url "$wanted" -o "${wanted%.in}.lock"
done
