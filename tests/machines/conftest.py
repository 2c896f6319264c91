"""Machines to type `make up` on. Needs a Docker engine, and root for the first build of the images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.machines import images
from tests.machines.machine import CHECKOUT, Done, Machine, running

HERE = Path(__file__).parent
DISK = 64 * 1024**3  # a bound; what is not written takes no memory
TYPED = "typed"
_FIGURES: list[tuple[str, Done]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m machines` is what fits some minutes; what is marked `long` is not in it."""
    for item in items:
        if HERE in item.path.parents:
            long = item.get_closest_marker("long") is not None
            if not long:
                item.add_marker("machines")
            item.add_marker(pytest.mark.timeout(7200 if long else 1200))


class Machines(Protocol):
    def __call__(
        self,
        image: str,
        *,
        user: str = ...,
        pip: bool = ...,
        disk: int = ...,
        checkout: str = ...,
        options: Sequence[str] = ...,
    ) -> Machine:
        """A machine that ends with the fixture. With `pip`, this machine's pip settings are its own."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machines]:
    with ExitStack() as started:

        def start(
            image: str,
            *,
            user: str = "root",
            pip: bool = True,
            disk: int = DISK,
            checkout: str = CHECKOUT,
            options: Sequence[str] = (),
        ) -> Machine:
            # A disk in memory: an environment of thousands of files is written and deleted in a third of the time.
            place = Path(CHECKOUT).parent
            each = [
                "--tmpfs",
                f"{place}:exec,mode=755,size={disk}",
                *(images.wheel_folders() if pip else ()),
                *options,
            ]
            new = started.enter_context(running(image, _keep, user=user, checkout=checkout, options=each))
            if pip:
                new.write("/etc/pip.conf", images.pip_conf().encode())
            return new

        yield start


def _keep(command: str, done: Done) -> None:
    _FIGURES.append((command, done))


@pytest.fixture(autouse=True)
def _figures(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """What was typed for a test goes with its report, which a parallel run sends to the process that prints."""
    yield
    for command, done in _FIGURES:
        record_property(TYPED, f"{command}: {done.code}, {done.seconds:.1f} s: {done.gist[:120]}")
    _FIGURES.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, text in report.user_properties
        if name == TYPED
    ]
    if lines:
        terminalreporter.section("machines: what was typed, its code, its seconds, what it came to")
    for line in lines:
        terminalreporter.write_line(line)
