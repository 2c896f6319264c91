"""Attention of every row over its own slot: no padding, no mask, and no row knows of another."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types

from app.engine.layers.cpu_kernels.launch import Kernel
from app.engine.layers.cpu_kernels.numbers import Format, exponential, pointer_to

_floats = pointer_to(types.float32)
_integers = pointer_to(types.int64)


def attention(numbers: Format, heads: int, key_heads: int, dim: int, scaling: float) -> Kernel:
    """Items are `rows * key_heads`. Arguments, in their order:

    queries     `[rows, heads, dim]`
    output      likewise
    rows        `[rows, 4]` int64: shelf, slot, position, attended length; 0 is left alone
    shelves     `[shelves, 3]` int64: address of the keys, of the values, capacity
    scratch     `[workers, heads / key_heads, longest]` float32
    longest     the longest attended length
    """
    group = heads // key_heads
    scale = np.float32(scaling)
    size, at = numbers.bytes, numbers.at
    scores_of, output_of = _scores(numbers, group, dim), _mixture(numbers, group, dim)

    @njit
    def task(arguments: Any, item: int, worker: int) -> None:
        row, head = item // key_heads, item % key_heads
        queries = carray(at(arguments[0] + (row * heads + head * group) * dim * size), (group, dim))
        output = carray(at(arguments[1] + (row * heads + head * group) * dim * size), (group, dim))
        shelf, slot, _, length = carray(_integers(arguments[2] + row * 32), 4)
        if length == 0:
            return
        keys_at, values_at, capacity = carray(_integers(arguments[3] + shelf * 24), 3)
        begin = (slot * key_heads + head) * capacity * dim * size
        longest = arguments[5]
        scores = carray(_floats(arguments[4] + worker * group * longest * 4), (group, longest))
        # Values are asked for while keys are worked on: with cold caches that is a sixth of the time.
        scores_of(queries, carray(at(keys_at + begin), (length, dim)), at(values_at + begin), scores, scale)
        for member in range(group):
            _softmax(scores[member, :length])
        output_of(scores, carray(at(values_at + begin), (length, dim)), output)

    return Kernel(task)


def _scores(numbers: Format, group: int, dim: int) -> Callable[..., None]:
    read, prefetch, per_line = numbers.read, numbers.prefetch, 64 // numbers.bytes

    @njit(fastmath=True)
    def scores_of(queries: Any, keys: Any, soon: Any, scores: Any, scale: Any) -> None:
        query = np.empty((group, dim), np.float32)
        key = np.empty(dim, np.float32)
        for member in range(group):
            for d in range(dim):
                query[member, d] = read(queries[member, d]) * scale
        for token in range(keys.shape[0]):
            for line in range(0, dim, per_line):
                prefetch(soon, token * dim + line)
            for d in range(dim):
                key[d] = read(keys[token, d])
            for member in range(group):
                score = np.float32(0)
                for d in range(dim):
                    score += query[member, d] * key[d]
                scores[member, token] = score

    return scores_of


@njit(fastmath=True)
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
    """Values are read once for the whole group, and four tokens are added at a time: the sums stay in registers."""
    read, write = numbers.read, numbers.write

    @njit(fastmath=True)
    def output_of(weights: Any, values: Any, output: Any) -> None:
        mixed = np.zeros((group, dim), np.float32)
        fours = values.shape[0] // 4 * 4
        for t in range(0, fours, 4):
            for d in range(dim):
                a, b = read(values[t, d]), read(values[t + 1, d])
                x, y = read(values[t + 2, d]), read(values[t + 3, d])
                for m in range(group):
                    mixed[m, d] += weights[m, t] * a + weights[m, t + 1] * b
                    mixed[m, d] += weights[m, t + 2] * x + weights[m, t + 3] * y
        for t in range(fours, values.shape[0]):
            for m in range(group):
                for d in range(dim):
                    mixed[m, d] += weights[m, t] * read(values[t, d])
        for m in range(group):
            for d in range(dim):
                output[m, d] = write(mixed[m, d])

    return output_of
