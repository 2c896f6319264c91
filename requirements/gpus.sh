#!/usr/bin/env bash
# What NVIDIA's driver decides about an installation: gpus.sh build|archs
#
#   build   which build of torch runs here: cpu without a GPU, cu126 below driver 580 and for cards older than Turing,
#           which PyPI's own build for CUDA 13 has no kernels for; else that one, cuda. Blackwell needs it
#   archs   the architectures that flash-attn is compiled for, of the GPUs that are there: 80;90
set -euo pipefail

ask() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null; }

build() {
  local driver
  driver=$(ask driver_version | head -n 1) || true
  case ${driver%%.*} in
    "" | *[!0-9]*) echo cpu ;;
    *)
      if has 'v < 7.5'; then echo cu126
      elif [ "${driver%%.*}" -ge 580 ] || has 'v >= 10'; then echo cuda
      else echo cu126; fi
      ;;
  esac
}

# Whether a card's compute capability, v, fulfils the condition.
has() {
  ask compute_cap | awk "{ v = \$1 + 0 } $1 { found = 1 } END { exit !found }"
}

# flash-attn knows 80, 90, 100 and 120; a newer GPU of one family runs what the oldest of it is compiled for.
archs() {
  ask compute_cap | sort -u | awk -F. '$1 == 8 { print 80 } $1 == 9 { print 90 } $1 >= 10 { print $1 * 10 }' |
    sort -nu | paste -sd ';' -
}

case ${1:-} in
  build) build ;;
  archs) archs ;;
  *)
    echo "usage: gpus.sh build|archs" >&2
    exit 2
    ;;
esac
