"""Why a measurement is not possible."""


class BenchError(Exception):
    """The message says what is wrong, and names a log if there is one."""


class Busy(BenchError):
    """Other processes use the machine."""


class Failed(BenchError):
    """A contestant did not start, ended, or did not do its work: its speed would mean nothing."""
