"""The command line, `python -m app`: models, GPUs, plans, settings, API keys and logs."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.keys.commands import add_commands as add_keys_commands
from app.keys.file import KeysFileError
from app.logs.commands import add_commands as add_logs_commands
from app.logs.source import LogsError
from app.models.catalogue import CATALOGUE, Hub, look_up
from app.models.errors import DoesNotFit, ModelError, ModelNotAvailable
from app.models.gpus import as_given, ask_torch, find_gpus
from app.models.info import read_config
from app.models.manifest import is_complete
from app.models.memory import available_memory
from app.models.placement import Gpu, Plan, plan_for
from app.models.selection import select, select_for_next_start
from app.models.units import gib, parse_size
from app.settings import Settings, SettingsError, load_settings

REQUEST_TOKENS = (2048, 8192, 32_768, 131_072)
_EXPECTED = (SettingsError, ModelError, KeysFileError, LogsError)
"""Their messages tell the operator what to do: a traceback would only hide them."""


AddCommands = Callable[[Any], None]
"""Adds commands to the subcommands of a parser."""


def main(
    arguments: Sequence[str] | None = None,
    *,
    more: Sequence[AddCommands] = (),
    expected: tuple[type[Exception], ...] = (),
) -> int:
    """The exit code: 0, 1 for what cannot be done, 2 for a wrong command line. `more` are the commands of packages
    above this one, and `expected` their errors."""
    parser, commands = _parser()
    for add in more:
        add(commands)
    options = parser.parse_args(arguments)
    console = _console()
    try:
        code: int | None = options.run(options, load_settings(), console)
    except _EXPECTED + expected as error:
        _console(stderr=True).print(str(error), markup=False)
        return 1
    return code or 0


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no width: wide enough for the tables
    return console


def _parser() -> tuple[argparse.ArgumentParser, Any]:
    """It, and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Models, GPUs, plans, settings, keys and logs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    models = commands.add_parser("models", help="list or fetch models").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = models.add_parser("list", help="the models, their sources, and which one is served")
    listing.set_defaults(run=_list)
    fetching = models.add_parser("fetch", help="download a model; does nothing if it is complete")
    fetching.add_argument("name", metavar="NAME", help=" or ".join(CATALOGUE))
    fetching.add_argument(
        "--from", dest="hub", type=Hub, choices=list(Hub), help="default: huggingface, else modelscope"
    )
    fetching.add_argument("--dir", type=Path, help="the folder of models; default: MODELS_DIR")
    fetching.set_defaults(run=_fetch)

    plan = commands.add_parser("plan", help="how a model and its KV cache fit the GPUs, from its config alone")
    plan.add_argument("--model", metavar="NAME|FOLDER", help="default: the MODEL setting")
    plan.add_argument("--gpus", type=_sizes, metavar="24GiB,24GiB", help="default: the visible ones")
    plan.set_defaults(run=_plan)

    gpus = commands.add_parser("gpus", help="the GPUs that can be used, or why none can; then it exits with 1")
    gpus.add_argument("--json", action="store_true", help="for programs")
    gpus.set_defaults(run=_gpus)

    choose = commands.add_parser("choose", help="the model that the next start serves; the reason goes to stderr")
    choose.set_defaults(run=_choose)

    settings = commands.add_parser("settings", help="every setting with its value")
    settings.set_defaults(run=_settings)

    add_keys_commands(commands)
    add_logs_commands(commands)
    return parser, commands


def _sizes(text: str) -> list[Gpu]:
    try:
        sizes = [parse_size(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return [Gpu(index, "from the command line", size, size) for index, size in enumerate(sizes)]


def _list(_options: argparse.Namespace, settings: Settings, console: Console) -> None:
    table = Table("name", "from", "size", "present", "licence", box=None)
    for model in CATALOGUE.values():
        present = "yes" if is_complete(settings.models_dir / model.name) else "no"
        table.add_row(model.name, str(model.source), gib(model.size), present, model.licence)
    console.print(table)
    try:
        selection = select_for_next_start(settings)
    except (ModelNotAvailable, DoesNotFit) as error:
        console.print(f"\nServed: none. {error}", markup=False)
        return
    console.print(f"\nServed: {selection.name} from {selection.folder}: {selection.reason}", markup=False)
    if selection.name in CATALOGUE and not is_complete(selection.folder):
        console.print(
            f"It is not downloaded yet. Fetch it: python -m app models fetch {selection.name}", markup=False
        )


def _fetch(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    os.environ["TQDM_DISABLE"] = "1"  # our one progress bar replaces the clients' bars for each file
    from app.models.download.fetch import fetch  # noqa: PLC0415  # the hubs' clients take a second to import

    folder = fetch(options.name, options.dir or settings.models_dir, hub=options.hub)
    console.print(f"{options.name} is in {folder}", markup=False)


def _plan(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    gpus = find_gpus() if options.gpus is None else as_given(options.gpus)
    selection = select(settings.model_copy(update={"model": options.model or settings.model}), gpus)
    name = selection.name
    config = look_up(name).config() if name in CATALOGUE else read_config(selection.folder)
    plan = plan_for(settings, config, selection.gpus, available_memory())
    console.print(f"{name}: {plan.parameters:,} parameters, {gib(plan.weights)} of weights")
    if plan.shares:
        console.print(_shares(plan))
    else:
        console.print("No GPU: everything is in the machine's memory.")
    console.print(f"KV cache: {plan.kv_per_token:,} bytes a token; {plan.kv_tokens:,} tokens fit")
    context = int(config["max_position_embeddings"])
    for tokens in (length for length in REQUEST_TOKENS if length <= context):
        console.print(f"  requests of {tokens:>7,} tokens at once: {plan.requests_of(tokens)}")


def _shares(plan: Plan) -> Table:
    table = Table("GPU", "free", "layers", "weights", "KV cache", "reserve", "name", box=None)
    for share in plan.shares:
        ends = [module for module in share.modules if module in {"model.embed_tokens", "lm_head"}]
        names = {"model.embed_tokens": "embedding", "lm_head": "head"}
        layers = f"{share.layers.start}-{share.layers.stop - 1}" if share.layers else "none"
        table.add_row(
            str(share.gpu.index),
            gib(share.gpu.free),
            ", ".join([layers, *(names[end] for end in ends)]),
            gib(share.weights),
            gib(share.kv),
            gib(share.reserve),
            share.gpu.name,
        )
    return table


def _choose(_options: argparse.Namespace, settings: Settings, console: Console) -> None:
    selection = select_for_next_start(settings)
    console.print(selection.name, markup=False)
    _console(stderr=True).print(f"{selection.name}: {selection.reason}", markup=False)


def _gpus(options: argparse.Namespace, _settings: Settings, console: Console) -> int:
    found = find_gpus()
    versions = {"torch": found.torch, "cuda": found.cuda}
    if found.torch is None:  # not asked yet, because the driver shows no GPU
        answer = ask_torch()
        versions = {name: answer[name] for name in versions}
    if options.json:
        told = {
            **versions,
            "driver": found.driver,
            "gpus": _for_programs(found.usable),
            "seen": _for_programs(found.seen),
            "problem": found.problem,
        }
        print(json.dumps(told))
        return 0 if found.usable else 1
    console.print(
        f"driver {found.driver or 'none'}, PyTorch {versions['torch'] or 'none'}, CUDA {versions['cuda'] or 'none'}"
    )
    table = Table("GPU", "memory", "free", "capability", "name", box=None)
    for gpu in _for_programs(found.usable):
        table.add_row(str(gpu["index"]), gib(gpu["total"]), gib(gpu["free"]), gpu["capability"], gpu["name"])
    if found.usable:
        console.print(table)
    if found.problem is not None:
        console.print(found.problem, markup=False)
    return 0 if found.usable else 1


def _for_programs(gpus: Iterable[Gpu]) -> list[dict[str, Any]]:
    return [
        {
            "index": gpu.index,
            "name": gpu.name,
            "total": gpu.total,
            "free": gpu.free,
            "capability": "unknown" if gpu.capability is None else "{}.{}".format(*gpu.capability),
        }
        for gpu in gpus
    ]


def _settings(_options: argparse.Namespace, settings: Settings, console: Console) -> None:
    table = Table("variable", "value", "meaning", box=None)
    for name, field in type(settings).model_fields.items():
        table.add_row(name.upper(), str(getattr(settings, name)), field.description)
    console.print(table)
