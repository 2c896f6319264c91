"""Which tests share a process when several processes run them (`pytest -n`)."""

from xdist.scheduler import LoadScopeScheduling

STACK = ("tests/e2e/", "tests/ops/test_stack.py")
"""These start the whole stack, whose packages and weights are in one place for all of them."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist publishes no types
    """A file's tests share a process and keep their order: they share models, servers and a browser.

    Files are taken in the order in which they were collected, whatever their number of tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "the stack" if nodeid.startswith(STACK) else nodeid.split("::", 1)[0]
