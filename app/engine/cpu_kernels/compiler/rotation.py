"""Rotary embedding of the step's new queries and keys, and the new keys and values into their pages."""

from typing import Any

from numba import carray, njit, types

from app.engine.cpu_kernels.compiler.numbers import Format, Task, pointer_to

_integers = pointer_to(types.int64)


def rotation(numbers: Format, heads: int, key_heads: int, dim: int, page: int) -> Task:
    """Items are rows. Arguments, in their order:

    states      `[rows, heads + 2 * key_heads, dim]`: queries, keys, values, as one multiplication gave them
    queries     `[rows, heads, dim]`, written
    cosines     `[rows, dim]`
    sines       likewise
    rows        `[rows, 4]` int64: sequence, slot (number of the page * page + place in it), position, attended length
    keys        `[pages, key_heads, page, dim]`, of the layer
    values      likewise
    """
    size, at, read, write = numbers.bytes, numbers.at, numbers.read, numbers.write
    half = dim // 2

    @njit(fastmath=True)
    def rotate(source: Any, target: Any, cosines: Any, sines: Any) -> None:
        for d in range(half):
            left, right = read(source[d]), read(source[half + d])
            target[d] = write(left * read(cosines[d]) - right * read(sines[d]))
            target[half + d] = write(right * read(cosines[half + d]) + left * read(sines[half + d]))

    @njit
    def task(arguments: Any, item: int, _worker: int) -> None:
        states = carray(at(arguments[0] + item * (heads + 2 * key_heads) * dim * size), (heads + 2 * key_heads, dim))
        queries = carray(at(arguments[1] + item * heads * dim * size), (heads, dim))
        cosines = carray(at(arguments[2] + item * dim * size), dim)
        sines = carray(at(arguments[3] + item * dim * size), dim)
        slot = carray(_integers(arguments[4] + item * 32), 4)[1]
        for head in range(heads):
            rotate(states[head], queries[head], cosines, sines)
        for head in range(key_heads):
            begin = ((slot // page * key_heads + head) * page + slot % page) * dim * size
            rotate(states[heads + head], carray(at(arguments[5] + begin), dim), cosines, sines)
            value = carray(at(arguments[6] + begin), dim)
            for d in range(dim):
                value[d] = states[heads + key_heads + head, d]

    return task
