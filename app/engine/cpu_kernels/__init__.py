"""What a Llama layer does between its multiplications, compiled for the CPU at start-up by numba.

    numbers    elements in memory as float32 numbers, whatever type they are stored in
    launch     a compiled function on torch's own OpenMP threads
    rotation   rotary embedding of the new rows, and their keys and values into the slots
    attention  every row against its own slot
    rows       normalisation, and the gated activation

torch needs a call for each of their steps, and one small matrix product for each sequence and head: at 32 sequences
that was half of a decode step (docs/decisions/0004-compiled-kernels.md).
"""
