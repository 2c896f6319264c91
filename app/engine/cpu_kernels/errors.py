"""Why a layer has no kernels."""


class KernelError(Exception):
    """This type has no kernels, they did not compile, or torch uses threads that they cannot share."""
