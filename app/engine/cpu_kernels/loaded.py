"""Has the kernels of a shape compiled, and loads their machine code."""

import os
import subprocess
import sys
from typing import Any

from llvmlite import binding

from app.engine.cpu_kernels.errors import KernelError
from app.engine.cpu_kernels.parcel import unpacked
from app.engine.cpu_kernels.shape import Shape

LONGEST_SECONDS = 300
"""A machine of a tenth of the usual speed compiles in 40."""


class MachineCode:
    """Functions in this process's memory, for as long as this object lives. Raises KernelError."""

    def __init__(self, shape: Shape) -> None:
        code = _compiled(shape)
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(jit=True)
        self._engine: Any = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Of a C function."""
        return int(self._engine.get_function_address(name))


def _compiled(shape: Shape) -> bytes:
    """By a process of its own, in about four seconds. It finds modules where this one does, and nowhere else (-P)."""
    try:
        compiler = subprocess.run(
            [sys.executable, "-P", "-m", "app.engine.cpu_kernels.compiler"],
            input=shape.as_json().encode(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=LONGEST_SECONDS,
            check=False,  # its last line says more than its status
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"the compiler did not run: {error}") from error
    if compiler.returncode:
        said = compiler.stderr.decode(errors="replace").strip().splitlines()
        raise KernelError(said[-1] if said else f"the compiler ended with status {compiler.returncode}")
    code = unpacked(compiler.stdout)
    if code is None:
        raise KernelError("what the compiler wrote is not whole")
    return code
