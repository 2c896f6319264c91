"""From tasks that numba compiles to one object file, which a process without numba can load."""

from collections.abc import Mapping
from typing import Any

from llvmlite import binding, ir
from numba import carray, njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from app.engine.cpu_kernels.block import HEAD, MOST
from app.engine.cpu_kernels.compiler.numbers import Task

_BLOCK = (types.CPointer(types.int64),)


def object_code(tasks: Mapping[str, Task]) -> bytes:
    """An object file for this machine's processor, with a C function `void name(int64_t *block)` for each task.

    Raises RuntimeError if it would need anything of numba's or Python's, which is not there where it runs.
    """
    with global_compiler_lock:
        library = cpu_target.target_context.codegen().create_library("kernels")
        library.enable_object_caching()
        for name, task in tasks.items():
            _add_entry(library, name, _with_workers(task))
        _add_release(library)
        library.finalize()
    _check_whole(library)
    library.get_pointer_to_function(next(iter(tasks)))  # it makes machine code when it is first asked for some
    _, _, (code, _) = library.serialize_using_object_code()
    return bytes(code)


def _with_workers(task: Task) -> Any:
    """What each thread runs: the next item, until there is none."""

    @njit
    def work(block: Any) -> None:
        items = carray(block, HEAD)[1]
        arguments = carray(block, MOST)[HEAD:]  # the task knows how many there are
        worker = _take(block, 2)
        item = _take(block, 0)
        while item < items:
            task(arguments, item, worker)
            item = _take(block, 0)

    work.compile(_BLOCK)
    return work.overloads[_BLOCK]


def _add_entry(library: Any, name: str, compiled: Any) -> None:
    """numba's own C function would report errors through Python. These tasks raise none: their status is dropped."""
    convention = cpu_target.target_context.call_conv
    result, arguments = compiled.signature.return_type, compiled.signature.args
    module = library.create_ir_module(f"entry.{name}")
    work = ir.Function(module, convention.get_function_type(result, arguments), compiled.fndesc.llvm_func_name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64).as_pointer()]), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    convention.call_function(builder, work, result, arguments, entry.args)
    builder.ret_void()
    library.add_linking_library(compiled.library)
    library.add_ir_module(module)


def _add_release(library: Any) -> None:
    """What numba calls when an array that it allocated is released. The tasks' arrays are memory that was given to
    them, so it is never called."""
    module = library.create_ir_module("release")
    pointer = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    release = ir.Function(module, pointer, "NRT_MemInfo_call_dtor")
    ir.IRBuilder(release.append_basic_block()).ret_void()
    library.add_ir_module(module)


def _check_whole(library: Any) -> None:
    functions = binding.parse_assembly(library.get_llvm_str()).functions
    missing = [each.name for each in functions if each.is_declaration and not each.name.startswith("llvm.")]
    if missing:
        raise RuntimeError(f"the kernels call {', '.join(missing)}")


@intrinsic
def _take(_context: Any, _counters: Any, _index: Any) -> Any:
    """The counter's value, which is then one higher: an atomic addition."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        counter = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), build
