#!/usr/bin/env bash
# Runs a command in a clean clone of this repository's last commit, on a Debian machine that has make, git and
# nothing else of what we need: fresh-machine.sh 'make up && make smoke && make down'
# SUITE=bullseye|bookworm|trixie chooses the Debian (bookworm). The machine is a container, removed at the end.
# This machine's pip settings and folders of wheels come along.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: fresh-machine.sh COMMAND" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
suite=${SUITE:-bookworm}

"$here/build.sh" fresh-machine "stand-in/fresh-machine:$suite" "$suite"
work=$(mktemp -d)
machine=fresh-machine-$$
trap 'docker rm --force "$machine" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
git clone --quiet "file://$root" "$work/clone"

"$here/pip-conf.sh" >"$work/pip.conf"
folders=()
read -ra links < <(sed -n 's/^find-links = //p' "$work/pip.conf") || true
for word in "${links[@]}"; do
  case $word in /*) folders+=(--volume "$word:$word:ro") ;; esac
done

docker create --name "$machine" --init --env CI --env HOME=/root "${folders[@]}" --workdir /srv/clone \
  "stand-in/fresh-machine:$suite" bash -c "$1" >/dev/null
docker cp "$work/clone/." "$machine:/srv/clone"
docker cp "$work/pip.conf" "$machine:/etc/pip.conf"
echo "fresh machine: Debian $suite, $(git -C "$work/clone" log -1 --format='%h %s')" >&2
docker start --attach "$machine"
