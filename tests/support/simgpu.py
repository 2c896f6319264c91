"""Two simulated GPUs on a machine that has none: `simgpu:0` and `simgpu:1`.

A tensor on a simulated GPU wraps a real CPU tensor, so the numbers are right and views share their memory. An
operation on tensors of two devices raises, as it would on real GPUs, with CUDA's exceptions: a number (a CPU tensor
without dimensions) goes with every device, CPU indices may index a GPU tensor, and `copy_` and `to` copy across.
Every such copy is recorded, and so is each read of a GPU's numbers by `item` and `tolist`, which wait for it.

It works in every thread, and for as long as the process lives: torch has one place for a further device type and no
way to take it back. (What lets `torch.tensor(…, device=…)` work is set thread by thread at the first operation on a
simulated GPU, so it must not be a thread's first one itself.) It leans on torch's experimental Python backend
(written for 2.13), a wrapper subclass that carries the device, and a Python fallback for what makes tensors;
`test_simgpu.py` says which promise broke when a new torch changes them.
"""

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.utils import backend_registration

from app.contract.telemetry import DeviceMemory

TYPE = "simgpu"
_KEY = "PrivateUse1"  # the dispatch key that torch keeps for a device type from elsewhere
aten = torch.ops.aten

_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
_WHOLE = {
    aten.flatten.using_ints,
    aten.linear.default,
    aten.matmul.default,
    aten.mT.default,
    aten.reshape.default,
    aten.to.dtype,
}
"""Composite operations that name no device. They are most of a model's, and each has many parts."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One copy from a device to another."""

    source: torch.device
    target: torch.device
    shape: tuple[int, ...]
    blocking: bool = field(default=True, compare=False)  # the host waits until it is done

    @property
    def between_gpus(self) -> bool:
        return self.source.type == TYPE and self.target.type == TYPE


_recordings: list[list[Crossing]] = []
_lost: list[torch.device] = []
_living: weakref.WeakValueDictionary[int, "SimTensor"] = weakref.WeakValueDictionary()


def gpus() -> tuple[torch.device, torch.device]:
    """The two devices. Makes torch know them at the first call."""
    _install()
    return torch.device(TYPE, 0), torch.device(TYPE, 1)


@contextmanager
def crossings() -> Iterator[list[Crossing]]:
    """Record the copies between devices, of every thread, while the context lasts."""
    gpus()
    recording: list[Crossing] = []
    _recordings.append(recording)
    try:
        yield recording
    finally:
        _recordings[:] = [other for other in _recordings if other is not recording]


@contextmanager
def lost(device: torch.device) -> Iterator[None]:
    """Every computation on the GPU fails, as after a fault that breaks a CUDA context."""
    _lost.append(device)
    try:
        yield
    finally:
        _lost.remove(device)


def allocated(device: torch.device) -> int:
    """Bytes of the tensors that live on a simulated GPU; views of one memory count once."""
    storages = {t.elem.untyped_storage().data_ptr(): t.elem.untyped_storage() for t in _tensors_on(device)}
    return sum(storage.nbytes() for storage in storages.values())


def _tensors_on(device: torch.device) -> list["SimTensor"]:
    return [tensor for tensor in list(_living.values()) if tensor.device == device]


class SimMemory:
    """A simulated GPU's memory, as the engine's cleanup wants it; counts how often it was emptied."""

    TOTAL = 24 * 2**30

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.emptied = 0

    def empty(self) -> None:
        self.emptied += 1

    def read(self) -> DeviceMemory:
        used = allocated(self.device)
        return DeviceMemory(
            device=str(self.device),
            allocated=used,
            reserved=used,
            free=self.TOTAL - used,
            total=self.TOTAL,
            peak=used,
        )


class SimTensor(Tensor):
    """A CPU tensor whose device is a simulated GPU."""

    elem: Tensor

    @staticmethod
    def __new__(cls, elem: Tensor, device: torch.device) -> Self:
        # Never an inference tensor: in inference mode torch fails on a view that is one of a base that is none.
        with torch._C._InferenceMode(False):
            self = Tensor._make_wrapper_subclass(
                cls,
                elem.size(),
                strides=elem.stride(),
                storage_offset=elem.storage_offset(),
                dtype=elem.dtype,
                device=device,
                requires_grad=False,
            )
        self.elem = elem
        _living[id(self)] = self
        return self

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes what only its printer gives
        return f"SimTensor({self.elem}, device={self.device})"

    def tolist(self) -> Any:
        _record(self, torch.device("cpu"))
        return self.elem.tolist()

    def data_ptr(self) -> int:
        """accelerate tells by it which parameters are tied; a wrapper's own is 0, and then all of them would be."""
        return self.elem.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SimTensor":
        copied = memo[id(self)] = SimTensor(self.elem.clone(), self.device)  # torch would copy an empty storage
        return copied

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks the operation
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # In inference mode composite operations arrive whole, with devices anywhere among their arguments.
        return func.decompose(*args, **kwargs) if _has_parts(func) else _run(func, args, kwargs)


@functools.cache
def _has_parts(func: Any) -> bool:
    return func not in _WHOLE and bool(func._can_decompose())


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute on the wrapped tensors, and wrap what comes out."""
    torch._C._set_only_lift_cpu_tensors(True)  # for torch.tensor(…, device=…)
    tensors: list[Tensor] = []
    real, named = _real(args, tensors), _real(kwargs, tensors)
    source = _common_device(func, args, tensors)
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else source
    if target.type == TYPE and target.index is None:
        target = torch.device(TYPE, 0)
    if source in _lost or target in _lost:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    if "device" in named:
        named["device"] = torch.device("cpu")

    out = _compute(func)(*real, **named)
    if func is aten.copy_.default:
        _record(args[1], args[0].device, blocking=not kwargs.get("non_blocking", args[2:3] == (True,)))
    elif func is aten._to_copy.default:
        _record(args[0], target, blocking=not kwargs.get("non_blocking", False))
    elif func is aten._local_scalar_dense.default:
        _record(args[0], torch.device("cpu"))
    if target.type != TYPE:
        return out
    return _wrapped(out, target)


def _compute(func: Any) -> Callable[..., Any]:
    """The operation itself; counting integers in a histogram works on CUDA and not on a CPU."""
    if func is aten.histc.default:
        return lambda values, *args, **kwargs: func(values.float(), *args, **kwargs)
    return cast("Callable[..., Any]", func)


def _common_device(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> torch.device:
    """The device that the operation runs on. Raises for tensors on two devices."""
    if func in _COPIES:
        return args[0].device  # type: ignore[no-any-return]  # a tensor's
    if func in _INDEXING:
        indices = [id(index) for index in args[1] if index is not None and index.device.type == "cpu"]
        tensors = [t for t in tensors if id(t) not in indices]
    devices = {t.device for t in tensors if t.device.type == TYPE or t.dim() > 0}
    if len(devices) > 1:
        found = " and ".join(sorted(map(str, devices)))
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {found}")
    return next(iter(devices), torch.device("cpu"))


def _record(source: Tensor, target: torch.device, *, blocking: bool = True) -> None:
    if source.device != target:
        for recording in _recordings:
            recording.append(Crossing(source.device, target, tuple(source.shape), blocking))


def _real(tree: Any, tensors: list[Tensor]) -> Any:
    """An operation's arguments with CPU tensors in place of simulated ones. `tensors` gets all tensors among them.

    torch's own `tree_map` took most of the time.
    """
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return tree.elem if isinstance(tree, SimTensor) else tree
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([_real(part, tensors) for part in tree])
    if kind is dict:
        return {name: _real(part, tensors) for name, part in tree.items()}
    return tree


def _wrapped(out: Any, device: torch.device) -> Any:
    """An operation's results on the device."""
    if isinstance(out, Tensor):
        return SimTensor(out, device)
    kind = type(out)
    if kind is tuple or kind is list:
        return kind([_wrapped(part, device) for part in out])
    return out


class _Backend(backend_registration._DummyBackendModule):
    """What `torch.simgpu` is."""

    def device_count(self) -> int:
        return 2

    def set_device(self, device: Any) -> None:
        """There is no current device: every tensor names its own."""

    def synchronize(self, device: Any = None) -> None:
        """Everything is computed at once."""


_library: list[torch.library.Library] = []  # its kernel lives as long as it does


@functools.cache
def _install() -> None:
    backend_registration._setup_privateuseone_for_python_backend(TYPE, backend_module=_Backend())
    library = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]  # torch's Library has no types
    library.fallback(_fallback, _KEY)  # type: ignore[no-untyped-call]  # likewise
    _library.append(library)


def _fallback(func: Any, *args: Any, **kwargs: Any) -> Any:
    """What torch calls for a simulated GPU when no argument is a SimTensor."""
    return _run(func, args, kwargs)
