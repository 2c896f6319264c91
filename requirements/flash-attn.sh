#!/usr/bin/env bash
# Installs flash-attn, at the version that pyproject.toml pins, beside the torch that is there:
#   flash-attn.sh PYTHON auto|build|off
#
# auto   installs a wheel that was built for exactly this torch, CUDA and Python, and says so when there is none
# build  compiles it (needs nvcc; about an hour). How many jobs run at once is left to flash-attn itself, which looks
#        at the memory. FLASH_ATTN_CUDA_ARCHS names the GPUs' architectures; without it those of the GPUs here.
# off    leaves it out
#
# One that is installed and was built for another torch is removed in each mode: it could not be imported.
#
# Wheels are looked for where pip looks, and in FLASH_ATTN_WHEELS (a folder, or the address of one; by default
# flash-attn's own releases): a wheel's name says what it was built for.
set -euo pipefail
python=$1 mode=$2
here=$(cd "$(dirname "$0")" && pwd)
pin=$(sed -nE 's/^gpu = \["(flash-attn==[^"]+)"\]$/\1/p' "$here/../pyproject.toml")
version=${pin#flash-attn==}
wheels=${FLASH_ATTN_WHEELS:-https://github.com/Dao-AILab/flash-attention/releases/download/v$version}
needs=(einops==0.8.1) # what flash-attn imports beside torch

pip() { "$python" -m pip "$@"; }

# cu13torch2.13cxx11abiTRUE, as flash-attn's own builds are called; nothing for a torch without CUDA
built_for() {
  "$python" -c '
import torch
if not torch.version.cuda:
    raise SystemExit
major, minor = torch.__version__.split(".")[:2]
print(f"cu{torch.version.cuda.split(chr(46))[0]}torch{major}.{minor}cxx11abi{str(torch._C._GLIBCXX_USE_CXX11_ABI).upper()}")'
}

auto() {
  local target wheel tag
  target=$(built_for)
  if [ -z "$target" ]; then return; fi
  tag=$("$python" -c 'import sys; print(f"cp{sys.version_info[0]}{sys.version_info[1]}")')
  wheel=$wheels/flash_attn-$version+$target-$tag-$tag-linux_$(uname -m).whl
  if pip install --quiet --no-deps --only-binary :all: "$pin+$target" 2>/dev/null ||
    pip install --quiet --no-deps --retries 0 --timeout 10 "$wheel" 2>/dev/null; then
    pip install --quiet --no-deps "${needs[@]}"
    echo "flash-attn $version+$target is installed"
  else
    echo "flash-attn: no wheel of $version fits ($target, $tag): going on with PyTorch's own attention;" \
      "FLASH_ATTN=build compiles it"
  fi
}

# A wheel's version says what it was built for; without that, as where it was compiled here, importing it tells.
remove_misfit() {
  local there
  there=$("$python" -c 'from importlib.metadata import version; print(version("flash-attn"))' 2>/dev/null) || return 0
  if [[ $there = *+* ]]; then
    if [ "$there" = "$version+$(built_for)" ]; then return; fi
  elif "$python" -c 'import flash_attn' 2>/dev/null; then
    return
  fi
  pip uninstall --quiet --yes flash-attn
  echo "flash-attn $there does not fit the torch that is installed: removed"
}

# Compiled wheels are kept under what they were compiled for: pip's own cache knows nothing of torch.
build() {
  local kept
  if ! command -v nvcc >/dev/null && [ ! -x "${CUDA_HOME:-}/bin/nvcc" ]; then
    echo "FLASH_ATTN=build needs nvcc of CUDA's toolkit, on PATH or in CUDA_HOME; FLASH_ATTN=off does without" >&2
    exit 1
  fi
  export FLASH_ATTN_CUDA_ARCHS=${FLASH_ATTN_CUDA_ARCHS:-$("$here/gpus.sh" archs)}
  if [ -z "$FLASH_ATTN_CUDA_ARCHS" ]; then unset FLASH_ATTN_CUDA_ARCHS; fi
  export FLASH_ATTENTION_FORCE_BUILD=TRUE # else its setup downloads a wheel, and `auto` would have found that one
  unset MAX_JOBS
  kept=${XDG_CACHE_HOME:-$HOME/.cache}/serving/flash-attn/$version-$(
    "$python" -c 'import sys, torch; print(f"{sys.implementation.cache_tag}-torch{torch.__version__}-cuda{torch.version.cuda}")'
  )-${FLASH_ATTN_CUDA_ARCHS//;/_}
  if ! compgen -G "$kept/*.whl" >/dev/null; then
    echo "Compiling flash-attn $version for ${FLASH_ATTN_CUDA_ARCHS:-all architectures}: this takes about an hour"
    pip install --quiet --no-deps "${needs[@]}" ninja==1.13.2 wheel==0.48.0 packaging setuptools
    # Without isolation, because the build has to see the torch that it is for.
    pip wheel --no-deps --no-build-isolation --no-cache-dir --no-binary flash-attn --wheel-dir "$kept" "$pin"
  fi
  pip install --quiet --no-deps "${needs[@]}"
  pip install --quiet --no-deps --force-reinstall "$kept"/*.whl
  echo "flash-attn $version is installed, compiled for ${FLASH_ATTN_CUDA_ARCHS:-all architectures}"
}

case $mode in
  auto | build | off) ;;
  *)
    echo "FLASH_ATTN=$mode: allowed are auto, build and off" >&2
    exit 2
    ;;
esac
remove_misfit
if [ "$mode" != off ]; then "$mode"; fi
