"""What keeps a measurement from being made."""


class BenchError(Exception):
    """The message says what is wrong, and where a log lies if there is one."""


class Busy(BenchError):
    """Others use the machine."""


class Failed(BenchError):
    """A contestant did not come up, ended, or did not do what it was asked: its speed would mean nothing."""
