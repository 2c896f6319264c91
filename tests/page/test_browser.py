"""The browser that the tests drive: started by what is installed on every machine that runs them."""

import psutil
import pytest

from tests.support.node import NODE


@pytest.mark.usefixtures("browser")
async def test_playwright_is_run_by_the_node_of_the_environment() -> None:
    """Its own needs a library that a fresh Debian has not."""
    drivers = [child for child in psutil.Process().children() if "run-driver" in child.cmdline()]
    assert {driver.exe() for driver in drivers} == {str(NODE.resolve())}
