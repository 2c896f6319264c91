#!/usr/bin/env bash
# Writes the lock of vLLM's server. Run by `make lock`. Without torch, which requirements/torch.sh installs, and without
# what is not needed here: readers of pictures, sound and films, and a compiler of kernels.
set -euo pipefail
cd "$(dirname "$0")"
without=(opencv-python-headless torch torchaudio torchcodec torchvision triton)
# shellcheck disable=SC2046  # one option per word is meant
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url $(printf -- '--no-emit-package %s ' "${without[@]}") \
  --override <(printf '%s; sys_platform == "none"\n' "${without[@]}") vllm.in -o vllm.lock
