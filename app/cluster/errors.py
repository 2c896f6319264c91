"""Why a command on the cluster failed."""


class ClusterError(Exception):
    """The message tells the operator what to do."""
