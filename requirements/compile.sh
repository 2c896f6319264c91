#!/usr/bin/env bash
# Writes the three locks from pyproject.toml. Run by `make lock`.
#
# torch and what only its CUDA build needs stay out: which build is right depends on the machine, and one
# lock with hashes would force several GB of CUDA libraries on machines without a GPU. `requirements/install.sh`
# installs torch at the version that pyproject.toml pins; torch itself pins its CUDA libraries exactly.
set -euo pipefail
cd "$(dirname "$0")"
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-package torch)

lock() { # lock OUTPUT [EXTRA OPTIONS...]
  local output=$1 cuda
  shift
  cuda=$(uv pip compile "${options[@]}" "$@" ../pyproject.toml | sed -nE 's/^((nvidia|cuda)-[a-z0-9-]+|triton)==.*/\1/p')
  cuda=$(grep -v '^nvidia-ml-py$' <<< "$cuda")  # reads the driver, needs no CUDA, and the app imports it everywhere
  if [[ $output == dev.lock ]]; then
    cuda=$(grep -v '^triton$' <<< "$cuda")  # tests run its kernels on the CPU, where torch does not install it
  fi
  # shellcheck disable=SC2046,SC2086  # one option per word is meant
  uv pip compile "${options[@]}" "$@" $(printf -- '--no-emit-package %s ' $cuda) ../pyproject.toml -o "$output"
  echo "wrote requirements/$output: $(grep -cE '^[a-z]' "$output") packages"
}

lock runtime.lock
lock dev.lock --extra dev
lock cluster.lock --extra cluster --constraint runtime.lock
