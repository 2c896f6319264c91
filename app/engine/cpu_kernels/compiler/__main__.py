"""A shape as JSON comes in, the machine code of its kernels goes out, as one object file.

A process of its own, because what numba and LLVM take to compile, 100 MB, would stay in the server for as long as it
runs. torch is not read here: its start would take longer than the compilation.
"""

import sys

from app.engine.cpu_kernels.compiler.attention import attention
from app.engine.cpu_kernels.compiler.machine_code import object_code
from app.engine.cpu_kernels.compiler.numbers import Task, format_of
from app.engine.cpu_kernels.compiler.rotation import rotation
from app.engine.cpu_kernels.compiler.rows import gated_silu, root_mean_square
from app.engine.cpu_kernels.parcel import packed
from app.engine.cpu_kernels.shape import Shape


def tasks_of(shape: Shape) -> dict[str, Task]:
    """By the names under which the machine code has them. Raises ValueError for a type without kernels."""
    numbers = format_of(shape.dtype)
    heads, key_heads, dim = shape.heads, shape.key_heads, shape.dim
    return {
        "attend": attention(numbers, heads, key_heads, dim, scaling=shape.scaling, page=shape.page),
        "rotate": rotation(numbers, heads, key_heads, dim, shape.page),
        "norm": root_mean_square(numbers, shape.width, shape.epsilon),
        "gate": gated_silu(numbers, shape.inner),
    }


def main() -> None:
    try:
        tasks = tasks_of(Shape.of_json(sys.stdin.read()))
    except ValueError as error:
        sys.exit(str(error))
    code = object_code(tasks)
    sys.stdout.flush()  # before the buffer below it is written to
    sys.stdout.buffer.write(packed(code))


if __name__ == "__main__":
    main()
