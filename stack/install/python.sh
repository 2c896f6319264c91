#!/usr/bin/env bash
# Sees to it that there is a Python for the host-side tool, which is content with 3.9: python.sh PYTHON
# On a Debian machine without one, root gets it from apt; others are told what to install.
# (Plain processes need a newer one for the app; stack/install/venvs.py looks for it.)
set -euo pipefail
python=${1:-python3}

if command -v "$python" >/dev/null; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' && exit 0
  echo "$python is $("$python" --version 2>&1); this needs Python 3.9 or newer (make … PYTHON=python3.11)." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "There is no $python. Install Python 3.9 or newer first, on Debian and Ubuntu: apt-get install python3 python3-venv" >&2
  exit 1
fi
echo "Installing by apt: python3, python3-venv"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends python3 python3-venv ca-certificates
