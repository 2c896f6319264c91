"""What a Llama layer does between its multiplications, compiled for the CPU when the model is loaded.

    shape     what kernels are compiled for
    compiler  the kernels, and the process that compiles them with numba
    parcel    machine code on its way from it
    loaded    their machine code in this process
    launch    a compiled function on torch's own OpenMP threads
    layer     the kernels of one layer, called with tensors

torch needs a call for each of their steps, and one small matrix product for each sequence and head: at 32 sequences
that was half of a decode step (docs/decisions/0004-compiled-kernels.md).
"""
