"""What an exception from a device means: out of memory, a lost device, or one failed step.

The text of an error is not enough: cuBLAS reports a failed allocation as "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
and the device still works. Nor is its type: a CPU without memory raises a plain RuntimeError. After a fault that
breaks a CUDA context (an illegal address, a failed assert, an ECC error) every later call of the process fails with
the same error, so the devices are tried with a small computation.
"""

from collections.abc import Sequence

import torch

_FAILED_ALLOCATIONS = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "std::bad_alloc",
)
"""Out-of-memory errors that torch gives no type: of libraries that do not use its allocator, of the driver itself, of
Triton when it loads a kernel, and of a CPU, for tensors and for what the operations keep beside them."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FAILED_ALLOCATIONS)


def lost_device(devices: Sequence[torch.device]) -> str | None:
    """The first device that fails a small computation, and its error; None when all devices compute.

    A device without free memory is not lost. Waits for what runs on the devices.
    """
    for device in devices:
        try:
            _use(device)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                return f"{device}: {error}"
    return None


def _use(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
    if torch.ones(2, device=device).sum().item() != 2:
        raise RuntimeError("it computes 1 + 1 wrong")
