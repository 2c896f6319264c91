#!/usr/bin/env bash
# Builds one stand-in for a base image, and tags it with that image's name: build.sh KIND IMAGE [SUITE]
# KIND is python, nginx, prometheus or nginx-exporter; or fresh-machine, in the Debian SUITE (bookworm).
# Does nothing when the image is there, unless it is a stand-in that an older recipe made.
set -euo pipefail
kind=$1 image=$2 suite=${3:-bookworm}
here=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "stand-in: $*" >&2; }

[ -f "$here/$kind.Dockerfile" ] || { say "there is none for $kind"; exit 2; }
recipe=$(cat "$here/base.sh" "$here/$kind"?* | sha256sum | cut -c1-12)
if made=$(docker image inspect --format '{{index .Config.Labels "stand-in.recipe"}}' "$image" 2>/dev/null); then
  case $made in "" | "$recipe") exit 0 ;; esac
fi
"$here/base.sh" "$suite"
say "building $image from Debian packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
labels=(--label "stand-in=$kind" --label "stand-in.recipe=$recipe")
if ! docker build "${labels[@]}" --build-arg "SUITE=$suite" --tag "$image" --file "$here/$kind.Dockerfile" "$here" \
  >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  exit 1
fi
