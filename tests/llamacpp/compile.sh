#!/usr/bin/env bash
# Writes the lock of llama.cpp's server. Run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")"
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url llamacpp.in -o llamacpp.lock
