#!/usr/bin/env bash
# Installs the locked dependencies into a Python environment: install.sh PYTHON runtime|dev
# Does nothing when the environment already holds exactly this lock and this build of torch.
# TORCH_BUILD is cpu, cu126 or cuda; without it NVIDIA's driver decides (gpus.sh).
set -euo pipefail
python=$1 set=$2
here=$(cd "$(dirname "$0")" && pwd)
torch=$(sed -nE 's/^ *"(torch==[^"]+)",$/\1/p' "$here/../pyproject.toml")
build=${TORCH_BUILD:-$("$here/gpus.sh" build)}
flash=${FLASH_ATTN:-auto}
if [ "$build" = cpu ]; then flash=off; fi
wanted="$(cat "$here/$set.lock" <(echo "$torch") | sha256sum | cut -d' ' -f1) $build $flash"
stamp=$("$python" -c 'import sys; print(sys.prefix)')/.installed-$set

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
echo "Installing $(grep -c '==' "$here/$set.lock") packages and $torch ($build); the first time this takes some minutes"
# On a terminal pip shows what it downloads; a log gets the line above.
quiet=(--quiet)
if [ -t 1 ]; then quiet=(); fi
"$python" -m pip install "${quiet[@]}" --require-hashes --no-deps --requirement "$here/$set.lock"
"$here/torch.sh" "$python" "$build"
"$here/flash-attn.sh" "$python" "$flash"

packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
# In a shell of its own: the path of this Python may be relative.
size=$(cd "$packages" && { du -scm torch nvidia triton 2>/dev/null || true; } | tail -n 1 | cut -f 1)
echo "torch $("$python" -c 'from importlib.metadata import version; print(version("torch"))') is installed: $size MB with what only it needs"
echo "$wanted" > "$stamp"
