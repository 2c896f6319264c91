#!/usr/bin/env bash
# Installs vLLM's server, in its build for CPUs, into an environment of its own, unless it is there:
#   install.sh PYTHON INTO
set -euo pipefail
python=$(realpath -s "$1") into=$2
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/vllm.lock
case $(uname -sm) in
  "Linux x86_64") unit=avx2 ;;
  "Linux aarch64") unit=asimd ;;
  *)
    echo "vLLM's build for CPUs exists for Linux on x86_64 and aarch64, and this is $(uname -sm)." >&2
    exit 1
    ;;
esac
if ! grep -qwE "^(flags|Features).*$unit" /proc/cpuinfo; then
  echo "vLLM's build for CPUs needs $unit, which this machine's processor does not have (/proc/cpuinfo)." >&2
  exit 1
fi
wanted=$(sha256sum < "$lock")
if [ "$(cat "$into/.installed" 2>/dev/null)" = "$wanted" ]; then exit; fi
rm -rf "$into"
"$python" -m venv "$into"
"$into/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$lock"
"$here/../../requirements/torch.sh" "$into/bin/python" cpu
echo "$wanted" > "$into/.installed"
