"""Attention of every row over its sequence's pages: no padding, no mask, and no row knows of another."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types

from app.engine.cpu_kernels.compiler.numbers import FAST, Format, Task, exponential, pointer_to

_floats = pointer_to(types.float32)
_integers = pointer_to(types.int64)


def attention(numbers: Format, heads: int, key_heads: int, dim: int, *, scaling: float, page: int) -> Task:
    """Items are `rows * key_heads`. Arguments, in their order:

    queries     `[rows, heads, dim]`
    output      likewise
    rows        `[rows, 4]` int64: sequence, slot, position, attended length; 0 is left alone
    tables      `[sequences, most]` int64: each sequence's pages
    most        pages in a row of `tables`
    keys        `[pages, key_heads, page, dim]`, of the layer
    values      likewise
    scratch     float32, for each worker mixed values, queries and a key, `[2 * group + 1, dim]` for a group of
                heads / key_heads, and their scores, `[group, longest]`
    longest     the longest attended length
    """
    group = heads // key_heads
    scale = np.float32(scaling)
    size, at = numbers.bytes, numbers.at
    widened, narrowed = _widened(numbers, group, dim), _narrowed(numbers, group, dim)
    scores_of, add_to = _scores(numbers, group, dim), _mixture(numbers, group, dim)

    @njit
    def task(arguments: Any, item: int, worker: int) -> None:
        row, head = item // key_heads, item % key_heads
        queries = carray(at(arguments[0] + (row * heads + head * group) * dim * size), (group, dim))
        output = carray(at(arguments[1] + (row * heads + head * group) * dim * size), (group, dim))
        sequence, _, _, length = carray(_integers(arguments[2] + row * 32), 4)
        if length == 0:
            return
        table = carray(_integers(arguments[3] + sequence * arguments[4] * 8), (length + page - 1) // page)
        longest = arguments[8]
        scratch = arguments[7] + worker * (group * longest + (2 * group + 1) * dim) * 4
        mixed = carray(_floats(scratch), (group, dim))
        query = carray(_floats(scratch + group * dim * 4), (group + 1, dim))  # its last row is the key worked on
        scores = carray(_floats(scratch + (2 * group + 1) * dim * 4), (group, longest))
        widened(queries, query, scale)
        for index in range(table.shape[0]):
            first = index * page
            count = min(page, length - first)
            begin = (table[index] * key_heads + head) * page * dim * size
            # The page's values and the next page's keys are asked for while keys are worked on: with cold caches that
            # is a sixth of the time, and the processor's own guess ends at a page's end.
            keys = carray(at(arguments[5] + begin), (count, dim))
            follows = table[min(index + 1, table.shape[0] - 1)]
            after = at(arguments[5] + (follows * key_heads + head) * page * dim * size)
            scores_of(query, keys, (at(arguments[6] + begin), after), scores, first)
        for member in range(group):
            _softmax(scores[member, :length])
        mixed[:] = np.float32(0)
        for index in range(table.shape[0]):
            first = index * page
            begin = (table[index] * key_heads + head) * page * dim * size
            add_to(mixed, scores, carray(at(arguments[6] + begin), (min(page, length - first), dim)), first)
        narrowed(mixed, output)

    return task


def _widened(numbers: Format, group: int, dim: int) -> Callable[..., None]:
    read = numbers.read

    @njit(fastmath=FAST)
    def widened(queries: Any, query: Any, scale: Any) -> None:
        for member in range(group):
            for d in range(dim):
                query[member, d] = read(queries[member, d]) * scale

    return widened


def _narrowed(numbers: Format, group: int, dim: int) -> Callable[..., None]:
    write = numbers.write

    @njit(fastmath=FAST)
    def narrowed(mixed: Any, output: Any) -> None:
        for member in range(group):
            for d in range(dim):
                output[member, d] = write(mixed[member, d])

    return narrowed


def _scores(numbers: Format, group: int, dim: int) -> Callable[..., None]:
    """Of one page, into `scores[:, first:]`."""
    number_of, prefetch, per_line = _numbers_of(numbers, dim), numbers.prefetch, 64 // numbers.bytes

    @njit(fastmath=FAST)
    def scores_of(query: Any, keys: Any, soon: Any, scores: Any, first: int) -> None:
        values, after = soon
        for token in range(keys.shape[0]):
            for line in range(0, dim, per_line):
                prefetch(values, token * dim + line)
                prefetch(after, token * dim + line)
            key = number_of(keys, token, query[group])
            for member in range(group):
                score = np.float32(0)
                for d in range(dim):
                    score += query[member, d] * key[d]
                scores[member, first + token] = score

    return scores_of


def _numbers_of(numbers: Format, dim: int) -> Callable[..., Any]:
    """A token's key as float32 numbers: itself if it is stored so, else in the scratch, once for all heads that read
    it. A copy of what is float32 already cost a tenth to a quarter of the time, a call for each token as much."""
    read = numbers.read

    @njit(inline="always")
    def itself(keys: Any, token: int, _scratch: Any) -> Any:
        return keys[token]

    @njit(inline="always")
    def widened(keys: Any, token: int, scratch: Any) -> Any:
        for d in range(dim):
            scratch[d] = read(keys[token, d])
        return scratch

    return itself if numbers.bytes == 4 else widened  # of a float32


@njit(fastmath=FAST)
def _softmax(scores: Any) -> None:
    """In place."""
    largest = scores[0]
    for token in range(scores.shape[0]):
        largest = max(largest, scores[token])
    total = np.float32(0)
    for token in range(scores.shape[0]):
        weight = exponential(scores[token] - largest)
        scores[token] = weight
        total += weight
    share = np.float32(1) / total
    for token in range(scores.shape[0]):
        scores[token] *= share


def _mixture(numbers: Format, group: int, dim: int) -> Callable[..., None]:
    """Of one page, weighted by `weights[:, first:]`. Values are read once for the whole group, and four tokens are
    added at a time: the sums stay in registers."""
    read = numbers.read

    @njit(fastmath=FAST)
    def add_to(mixed: Any, weights: Any, values: Any, first: int) -> None:
        fours = values.shape[0] // 4 * 4
        for t in range(0, fours, 4):
            w = first + t
            for d in range(dim):
                a, b = read(values[t, d]), read(values[t + 1, d])
                x, y = read(values[t + 2, d]), read(values[t + 3, d])
                for m in range(group):
                    mixed[m, d] += weights[m, w] * a + weights[m, w + 1] * b
                    mixed[m, d] += weights[m, w + 2] * x + weights[m, w + 3] * y
        for t in range(fours, values.shape[0]):
            for m in range(group):
                for d in range(dim):
                    mixed[m, d] += weights[m, first + t] * read(values[t, d])

    return add_to
