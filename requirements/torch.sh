#!/usr/bin/env bash
# Installs torch at the version that pyproject.toml pins, in the build that this machine can use:
#   torch.sh PYTHON cpu|cu126|cuda
#
# cpu    PyTorch's own index of CPU wheels (TORCH_CPU_INDEX; empty: not asked) is asked beside pip's own sources, once,
#        without retries and for a few seconds: it cannot be reached everywhere. Without it pip takes what there is.
# cu126  for drivers below 580: wheels of TORCH_CUDA_INDEX, and no other, because no other would run.
# cuda   PyPI's own build.
set -euo pipefail
python=$1 build=$2
here=$(cd "$(dirname "$0")" && pwd)
torch=$(sed -nE 's/^ *"(torch==[^"]+)",$/\1/p' "$here/../pyproject.toml")
version=${torch#torch==}
cpu_index=${TORCH_CPU_INDEX-https://download.pytorch.org/whl/cpu}
cuda_index=${TORCH_CUDA_INDEX-https://download.pytorch.org/whl/cu126}
patience=5 # seconds for one answer of the index; torch's page is all that is asked for

pip() { "$python" -m pip "$@"; }
# Without a hash: each build of one version is a different file, and a mirror may serve yet another.
install() { if [ -t 1 ]; then pip install "$@"; else pip install --quiet "$@"; fi; }

offers() { # offers VERSION [OPTIONS OF PIP...]
  local said
  said=$(pip index versions torch "${@:2}" 2>/dev/null) || return 1
  grep -qE "^Available versions:.*[ ,]${1//+/\\+}(,|$)" <<<"$said"
}

cpu() {
  if offers "$version+cpu"; then
    install "$torch+cpu"
  elif [ -n "$cpu_index" ] && offers "$version+cpu" --retries 0 --timeout "$patience" --extra-index-url "$cpu_index"; then
    install --extra-index-url "$cpu_index" "$torch+cpu"
  else
    echo "torch: there is no CPU build of $version in ${cpu_index:-what pip is set up with}, or no answer: installing the default build"
    install "$torch"
  fi
}

cu126() {
  local options=()
  if [ -n "$cuda_index" ]; then options=(--extra-index-url "$cuda_index"); fi
  if ! install "${options[@]}" "$torch+cu126"; then
    echo "torch $version+cu126 is needed here (NVIDIA's driver is older than 580, or a card older than Turing), and" \
      "could not be installed: $(reason "${options[@]}"). Without the GPUs: TORCH_BUILD=cpu MODEL=smollm2-135m." >&2
    exit 1
  fi
}

# Why pip failed, and what to do: the index did not answer, has no such build, or has it.
reason() { # reason [OPTIONS OF PIP...]
  local silence=""
  if [ -n "$cuda_index" ]; then silence=$(unanswered "$cuda_index"); fi
  if [ -n "$silence" ]; then
    echo "$cuda_index did not answer ($silence). Check the network and the proxy (HTTPS_PROXY), or name a source that" \
      "this machine reaches in TORCH_CUDA_INDEX"
  elif offers "$version+cu126" "$@"; then
    echo "${cuda_index:-a source of pip} offers it, and pip's message above says what went wrong"
  else
    echo "${cuda_index:-no source of pip} does not offer it for this Python. Update the driver to 580 or newer, or name" \
      "another source in TORCH_CUDA_INDEX"
  fi
}

# Why an index gives no answer to one short question; nothing where it answers, whatever that is.
unanswered() { # unanswered INDEX
  local host=${1#*://}
  host=${host#*@} # pip hides a password
  pip index versions torch --index-url "$1" --retries 0 --timeout "$patience" -vv 2>&1 |
    grep -F "${host%/}/torch/: " | sed -nE '/: [45][0-9][0-9] /d
      s/.*Could not fetch URL (.*) - skipping/\1/; T
      s/ \(read timeout.*//; s/.*: //; s/\[Errno [-0-9]*\] //; s/["'\'').]*$//p' | head -n 1 || true
}

case $build in
  cpu) cpu ;;
  cu126) cu126 ;;
  cuda) install "torch===$version" ;; # exactly: a CPU build of a folder of wheels counts as newer
  *)
    echo "TORCH_BUILD=$build: allowed are cpu, cu126, cuda, and nothing to choose by NVIDIA's driver" >&2
    exit 2
    ;;
esac
