#!/usr/bin/env bash
# Prints this machine's pip settings as one pip.conf, for another machine: the indexes and folders of wheels, and how
# they are reached. An index on this machine's disk and a constraint stay here: they name files that are not there.
# Folders of wheels (find-links) are named as they are: mount them.
set -euo pipefail

seen=' '
echo "[global]"
while IFS='=' read -r name value; do
  name=${name##*.}
  case $name in index-url | extra-index-url | find-links | trusted-host | cert | default-timeout) ;; *) continue ;; esac
  case $seen in *" $name "*) continue ;; esac # pip lists the environment before its files, and the first one counts
  words=()
  for word in $(printf '%s' "$value" | tr -d "'"); do
    case $name-$word in *index-url-file:*) continue ;; esac
    words+=("$word")
  done
  if [ ${#words[@]} -gt 0 ]; then
    seen+="$name "
    echo "$name = ${words[*]}"
  fi
done < <(python3 -m pip config list 2>/dev/null || true)
