#!/usr/bin/env bash
# Makes the image `stand-in/debian:SUITE` from Debian packages alone: what the other stand-ins are built on.
# base.sh [bullseye|bookworm|trixie], default bookworm. Does nothing when an image of this recipe is there.
# The machine's certificate authorities go into it, so that apt and pip work inside builds as they do outside.
# Needs root (mmdebstrap makes a root file system). DEBIAN_MIRROR names a mirror instead of mmdebstrap's own.
set -euo pipefail

suite=${1:-bookworm}
image=stand-in/debian:$suite
authorities=/etc/ssl/certs/ca-certificates.crt

say() { printf '%s\n' "stand-in: $*" >&2; }

recipe=$(sha256sum <"$0" | cut -c1-12)
made=$(docker image inspect --format '{{index .Config.Labels "stand-in.recipe"}}' "$image" 2>/dev/null) || true
if [ "$made" = "$recipe" ]; then exit 0; fi
if ! command -v mmdebstrap >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "needs mmdebstrap: install that package"
    exit 1
  fi
  say "installing mmdebstrap"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi

# In memory where there is room: dpkg waits for the disk after every file, and that is most of the time.
if [ "$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1)" -gt 2048 ] 2>/dev/null; then
  export TMPDIR=/dev/shm
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "Debian $suite from packages, half a minute"
if ! mmdebstrap --variant=minbase --include=ca-certificates "$suite" "$work/root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
  2>"$work/log"; then
  tail -n 20 "$work/log" >&2
  exit 1
fi
if [ -f "$authorities" ]; then cp "$authorities" "$work/root$authorities"; fi
# As the official images have it: a build's layer does not keep the packages that it installed.
cat >"$work/root/etc/apt/apt.conf.d/stand-in" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };
Acquire::Languages "none";
END
tar -C "$work/root" --exclude './dev/*' -c . |
  docker import --change "LABEL stand-in=debian stand-in.recipe=$recipe" - "$image" >/dev/null
say "$image is ready"
