"""`python3 -m stack COMMAND`, from the repository's root: up, doctor, down, logs and so on."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import cast

from stack.client import served_model
from stack.config import Config, load_config
from stack.containers.stack import ContainerStack
from stack.doctor import checks
from stack.forwarded_settings import hand_on
from stack.install import packages, venvs
from stack.install.dependencies import EMBEDDED, ensure_dependencies, ensure_node_client, fetch_model
from stack.keys import keys
from stack.log_format import readable
from stack.mode import ModeChoice, choose
from stack.native.stack import NativeStack
from stack.protocol import Stack, StackError
from stack.report.command import report
from stack.requests import requests
from stack.smoke import smoke


def up(config: Config) -> None:
    choice = choose(config)
    stack, other = _stacks(config, choice)
    if other.processes():
        raise StackError("The stack of this STATE_DIR is running in the other MODE: stop it first with `make down`.")
    checks.preflight(checks.examine(config, choice, running=bool(stack.processes())))
    print({"docker": "Starting containers", "native": "Starting plain processes"}[choice.mode] + f": {choice.why}")
    stack.up()
    print(f"\nServing {served_model(config)}")
    for name, address in stack.services().items():
        print(f"  {name:12} {address}")
    key = ' -H "Authorization: Bearer $API_KEY"' if config.api_keys_file else ""
    print("\nTry it:")
    print(
        f"  curl -X POST '{config.address}' -H 'Content-Type: application/json'{key} "
        '-d \'{"prompt": "Write a Python function that reverses a string.", "history": []}\''
    )


def examine(config: Config) -> None:
    choice = choose(config)
    running = any(stack.processes() for stack in _stacks(config, choice))
    checks.report(checks.examine(config, choice, running=running))


def down(config: Config) -> None:
    for stack in (NativeStack(config), ContainerStack(config)):
        stack.down()
    print("Nothing is running.")


def restart(config: Config) -> None:
    """Nothing is stopped when the preflight finds that the start would fail."""
    choice = choose(config)
    checks.preflight(checks.examine(config, choice, running=True))
    down(config)
    up(config)


def status(config: Config) -> None:
    stack = _running(config)
    for each in stack.processes():
        print(f"  {each}")
    model = served_model(config)
    print(f"Serving {model} on {config.address}" if model else "Running, but not ready: `make logs` shows why")


def logs(config: Config) -> None:
    terminal = sys.stdout.isatty()
    for service, line in _running(config).log_lines(follow=True, tail=50):
        width = shutil.get_terminal_size().columns if terminal else None  # it may have changed
        print(readable(service, line, colour=terminal, width=width), flush=True)


def ask(config: Config) -> None:
    smoke(config, _running(config))


def prepare(config: Config) -> None:
    """Everything that the tests need."""
    packages.ensure(packages.TESTS, venvs.find_python())
    ensure_dependencies("dev")
    ensure_node_client()
    fetch_model(config, EMBEDDED)


COMMANDS: dict[str, Callable[[Config], None]] = {
    "up": up,
    "doctor": examine,
    "down": down,
    "restart": restart,
    "status": status,
    "logs": logs,
    "smoke": ask,
    "prepare": prepare,
}

WITH_ARGUMENTS: dict[str, Callable[[Config, Sequence[str]], None]] = {
    "keys": keys,
    "requests": requests,
    "report": report,
}


def _stacks(config: Config, choice: ModeChoice) -> tuple[Stack, Stack]:
    """The one to start, and the other."""
    native, containers = NativeStack(config), ContainerStack(config)
    return (containers, native) if choice.mode == "docker" else (native, containers)


def _running(config: Config) -> Stack:
    for stack in (NativeStack(config), ContainerStack(config)):
        if stack.processes():
            return stack
    raise StackError("Nothing is running: `make up` starts the stack.")


def _end(number: int, _frame: object) -> None:
    """SIGTERM unwinds like Ctrl-C, so that half a start is taken down again."""
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m stack")
    parser.add_argument("command", choices=[*COMMANDS, *WITH_ARGUMENTS])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="only of `keys`, `requests` and `report`")
    options = parser.parse_args()
    if options.arguments and options.command not in WITH_ARGUMENTS:
        parser.error(f"`{options.command}` takes no arguments.")
    signal.signal(signal.SIGTERM, _end)
    hand_on()
    # In a log, the reason comes last; and a terminal's encoding may lack what a prompt has.
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        config = load_config()
        if options.command in WITH_ARGUMENTS:
            WITH_ARGUMENTS[options.command](config, options.arguments)
        else:
            COMMANDS[options.command](config)
    except StackError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `make logs | head`
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
