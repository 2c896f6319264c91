"""`python -m bench`: all measurements, one by its name, the table alone, or the load generator."""

import argparse
import sys

from rich.console import Console

from bench.errors import BenchError
from bench.gpu_check.report import load_all as load_checks
from bench.load import command
from bench.measures import MEASUREMENTS
from bench.report import document, markdown
from bench.results import RESULTS, load_all, save
from bench.run import Measurement, perform
from stack.protocol import StackError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name, about in [("all", "Every measurement"), *((m.name, m.title) for m in MEASUREMENTS)]:
        one = commands.add_parser(name, help=about)
        one.add_argument("--rounds", type=int, help="number of turns of each contestant")
        one.add_argument("--quick", action="store_true", help="small sizes, to test the measurement; stores nothing")
        one.add_argument("--busy-ok", action="store_true", help="measure although other processes use the machine")
    commands.add_parser("table", help="Write RESULTS.md anew from bench/results/")
    command.add_arguments(commands.add_parser("load", help="Put load on any server"))
    arguments = parser.parse_args()
    if arguments.command == "load":
        return command.run(arguments)
    chosen = [m for m in MEASUREMENTS if arguments.command in ("all", m.name)]
    return _measure(chosen, arguments) if chosen else _write_table()


def _measure(chosen: list[Measurement], arguments: argparse.Namespace) -> int:
    console = Console()
    failed = 0
    for measurement in chosen:
        try:
            result = perform(
                measurement, console, rounds=arguments.rounds, quick=arguments.quick, busy_ok=arguments.busy_ok
            )
        except (BenchError, StackError) as error:
            print(f"{measurement.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        print(markdown([result]).partition("## Targets\n")[2])
        if not arguments.quick:
            save(result)
            _write_table()
    return 1 if failed else 0


def _write_table() -> int:
    results = load_all([measurement.name for measurement in MEASUREMENTS])
    path = RESULTS.parent / "RESULTS.md"
    path.write_text(document(results, load_checks(RESULTS / "gpu")), encoding="utf-8")
    print(f"{path} has {len(results)} of {len(MEASUREMENTS)} measurements")
    return 0


if __name__ == "__main__":
    sys.exit(main())
