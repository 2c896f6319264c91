"""The commands `python -m app logs list|show|summary|replay`."""

import argparse
import heapq
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from app.logs.conversation import conversation
from app.logs.line import RequestLine
from app.logs.replay import differences, replay
from app.logs.selection import Selection, moment, status
from app.logs.source import LogsError, followed, requests
from app.logs.summary import summaries, summary_table
from app.logs.table import aligned, requests_table
from app.settings import Settings


def add_commands(commands: Any) -> None:
    """To the subcommands of a parser."""
    logs = commands.add_parser("logs", help="find requests in the log, read one, or sum them up")
    parsers = logs.add_subparsers(required=True, metavar="COMMAND")

    listing = parsers.add_parser("list", help="requests, a line each, the newest last")
    listing.add_argument("--slowest", type=_said(_count), metavar="N", help="only the N that took longest")
    listing.add_argument("--last", type=_said(_count), metavar="N", help="only the last N")
    listing.add_argument("--follow", action="store_true", help="those that end from now on")
    _add_selection(listing)
    listing.set_defaults(run=_list)

    showing = parsers.add_parser("show", help="one request: its conversation, its stages, what ran beside it")
    showing.add_argument("id", metavar="ID", help="its id, or the beginning of it")
    showing.set_defaults(run=_show)

    summing = parsers.add_parser("summary", help="counts, tokens and percentiles by hour and key")
    _add_selection(summing)
    summing.set_defaults(run=_summary)

    asking = parsers.add_parser("replay", help="ask the running server again, with its seed, and show what differs")
    asking.add_argument("id", metavar="ID", help="its id, or the beginning of it")
    asking.add_argument("--url", help="default: http://127.0.0.1:HTTP_PORT")
    asking.set_defaults(run=_replay)

    for parser in (listing, showing, summing, asking):
        parser.add_argument("--json", action="store_true", help="for programs: JSON, one object on each line")
        parser.add_argument(
            "--file",
            type=Path,
            action="append",
            metavar="FILE",
            help="a log of the app, or - for standard input; default: STATE_DIR/logs/app.log, of plain processes",
        )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", help="or the beginning of one")
    parser.add_argument("--key", metavar="NAME", help="of this API key; anonymous: without a key")
    parser.add_argument("--path", help="such as /v1/chat/completions")
    parser.add_argument(
        "--since", type=_said(moment), metavar="TIME", help="10m, 2h or 1d ago, or 2027-01-31T18:00 in UTC"
    )
    parser.add_argument("--until", type=_said(moment), metavar="TIME", help="likewise")
    parser.add_argument("--status", type=_said(status), metavar="STATUS", help="such as 429, or 4xx")
    parser.add_argument("--errors", action="store_true", help="refused and failed ones, and clients that left")


def _said(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def said(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return said


def _count(text: str) -> int:
    """Raises ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{text} is none: use a number of 1 or more")
    return number


def _selection(options: argparse.Namespace) -> Selection:
    names = ("id", "key", "path", "since", "until", "status", "errors")
    return Selection(**{name: getattr(options, name) for name in names})


def _files(options: argparse.Namespace) -> list[Path]:
    return options.file or _native_files(Path(os.environ.get("STATE_DIR") or "var") / "logs" / "app.log")


def _native_files(file: Path) -> list[Path]:
    """With those that were rotated away, oldest first."""
    rotated = [each for each in file.parent.glob(f"{file.name}.*") if each.suffix[1:].isdigit()]
    return [*sorted(rotated, key=lambda each: -int(each.suffix[1:])), file]


def _list(options: argparse.Namespace, _settings: Settings, console: Console) -> None:
    if options.follow:
        _follow(options, console)
        return
    found: Iterable[RequestLine] = _selection(options).of(requests(_files(options)))
    if options.slowest is not None:
        found = heapq.nlargest(options.slowest, found, key=lambda line: line.seconds)
    elif options.last is not None:
        found = list(found)[-options.last :]
    if options.json:
        _print_json(line.fields for line in found)
    else:
        console.print(requests_table(found, console))


def _follow(options: argparse.Namespace, console: Console) -> None:
    """Until it is interrupted."""
    if not options.json:
        console.print(aligned(None, console.width))
    for line in _selection(options).of(followed(_files(options)[-1])):
        if options.json:
            _print_json([line.fields])
        else:
            console.print(aligned(line, console.width))


def _show(options: argparse.Namespace, _settings: Settings, console: Console) -> None:
    lines = list(requests(_files(options)))
    line = _one(lines, options.id)
    if options.json:
        _print_json([line.fields])
        return
    for text in conversation(line, lines):
        console.print(text, markup=False)


def _one(lines: Iterable[RequestLine], identity: str) -> RequestLine:
    found = [line for line in lines if line.id.startswith(identity)]
    if len({line.id for line in found}) != 1:
        many = "several requests whose ids begin" if found else "no request whose id begins"
        raise LogsError(f"The log has {many} with {identity!r}.")
    return found[0]


def _replay(options: argparse.Namespace, _settings: Settings, console: Console) -> int:
    """1 when the answers differ."""
    line = _one(requests(_files(options)), options.id)
    url = options.url or f"http://127.0.0.1:{os.environ.get('HTTP_PORT') or 6006}"
    before, now = replay(line, url, os.environ.get("API_KEY"))
    if options.json:
        _print_json([{"same": before == now, "logged": before, "now": now}])
    elif before == now:
        console.print(f"The same answer, {len(now)} characters.")
    else:
        for text in differences(before, now):
            console.print(text, markup=False)
    return int(before != now)


def _summary(options: argparse.Namespace, _settings: Settings, console: Console) -> None:
    found = summaries(_selection(options).of(requests(_files(options))))
    if options.json:
        _print_json(each.plain() for each in found)
    else:
        console.print(summary_table(found))


def _print_json(found: Iterable[dict[str, Any]]) -> None:
    """ASCII only: nothing in it reaches a terminal as a control character."""
    for fields in found:
        sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
