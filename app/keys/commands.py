"""The commands `python -m app keys add|list|revoke`."""

import argparse
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.contract.options import LogContent, least_content
from app.keys.file import KeysFileError, append, as_line, changing, read
from app.keys.record import KeyRecord, hash_of, moment, said
from app.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add_commands(commands: Any) -> None:
    """To the subcommands of a parser."""
    keys = commands.add_parser(
        "keys", help="list, add or revoke API keys; a running server takes them without a restart"
    )
    parsers = keys.add_subparsers(required=True, metavar="COMMAND")

    adding = parsers.add_parser("add", help="make a key; it is printed once, and its hash is written into the file")
    adding.add_argument("name", metavar="NAME", type=_name, help="whose key it is: the tenant in logs")
    adding.add_argument(
        "--requests",
        metavar="N",
        type=_number,
        help="how many may be inside at once; default: its share",
    )
    adding.add_argument(
        "--prompt-tokens",
        metavar="N",
        type=_number,
        help="how many these may have together; default: its share",
    )
    adding.add_argument(
        "--log-content",
        choices=list(LogContent),
        type=LogContent,
        help="the most that is logged of its prompts and answers; default: LOG_CONTENT, which is a bound in any case",
    )
    adding.add_argument(
        "--expires", metavar="DATE", type=_moment, help="as in 2027-01-31 or 2027-01-31T18:00, in UTC"
    )
    adding.set_defaults(run=_add)

    listing = parsers.add_parser("list", help="each key's name, state and limits")
    listing.set_defaults(run=_list)

    revoking = parsers.add_parser("revoke", help="end a key")
    revoking.add_argument("name", metavar="NAME")
    revoking.set_defaults(run=_revoke)

    for parser in (adding, listing, revoking):
        parser.add_argument("--file", type=Path, help="default: the setting API_KEYS_FILE")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("use letters, digits, '.', '_' and '-', at most 64")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError("use a whole number from 1 on")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    key = f"sk-{secrets.token_urlsafe(32)}"  # the prefix is what some clients insist on
    record = KeyRecord(
        name=options.name,
        sha256=hash_of(key),
        requests=options.requests,
        prompt_tokens=options.prompt_tokens,
        log_content=options.log_content,
        expires=options.expires,
    )
    file = _file(options, settings)
    with changing(file) as lines:
        if any(line.record is not None and line.record.name == record.name for line in lines):
            raise KeysFileError(f"{file} has a key of the name {record.name}: choose another, or remove that line.")
        append(lines, record)
    console.print(key, markup=False)
    until = "" if record.expires is None else f", until {said(record.expires)}"
    if (ended := record.ended(datetime.now(UTC))) is not None:
        _tell(f"No server accepts this key: it {ended}. Remove its line, or change its date, in {file}.")
    _tell(
        f"This is the key of {record.name}{until}. It is shown only now: {file} has its hash. Clients send it as "
        "`Authorization: Bearer KEY`. A running server accepts it within seconds."
    )


def _list(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    now = datetime.now(UTC)
    table = Table("name", "state", "requests", "prompt tokens", "log content", "expires", box=None)
    for line in read(_file(options, settings)):
        if (key := line.record) is not None:
            limits = [str(limit or "share") for limit in (key.requests, key.prompt_tokens)]
            expires = "never" if key.expires is None else said(key.expires)
            content = least_content(settings.log_content, key.log_content)
            table.add_row(key.name, _state(key, now, line.plain), *limits, content, expires)
    console.print(table)


def _state(record: KeyRecord, now: datetime, plain: bool) -> str:
    if record.revoked is not None:
        return f"revoked {said(record.revoked)}"
    if record.ended(now) is not None:
        return "expired"
    return "plain" if plain else "active"


def _revoke(options: argparse.Namespace, settings: Settings, _console: Console) -> None:
    file = _file(options, settings)
    with changing(file) as lines:
        number, record = next(
            (
                (number, line.record)
                for number, line in enumerate(lines)
                if line.record is not None and line.record.name == options.name
            ),
            (0, None),
        )
        if record is None:
            raise KeysFileError(f"{file} has no key of the name {options.name}.")
        if record.revoked is None:
            record = record.model_copy(update={"revoked": datetime.now(UTC).replace(microsecond=0)})
            lines[number] = as_line(record)
    _tell(f"The key of {options.name} {record.ended(datetime.now(UTC))}. Answers that run with it are not ended.")


def _file(options: argparse.Namespace, settings: Settings) -> Path:
    file: Path | None = options.file or settings.api_keys_file
    if file is None:
        raise KeysFileError("Set API_KEYS_FILE, or say which file: --file FILE.")
    return file


def _tell(text: str) -> None:
    """On stderr: what is on stdout can be piped."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)
