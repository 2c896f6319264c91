"""Machine code on its way from the compiler: LLVM ends the process that loads an object file which is not whole.

Other things may be written beside it, by what a site runs at each start of Python or by numba's own switches.
"""

import hashlib

_MARK = b"\nmachine code of the kernels:"
_DIGEST, _LENGTH = 32, 8


def packed(code: bytes) -> bytes:
    return _MARK + hashlib.sha256(code).digest() + len(code).to_bytes(_LENGTH) + code


def unpacked(output: bytes) -> bytes | None:
    """The code that was packed, whatever is before and after it; None where it is not there or not whole."""
    _, _, rest = output.partition(_MARK)
    digest, length, rest = rest[:_DIGEST], rest[_DIGEST : _DIGEST + _LENGTH], rest[_DIGEST + _LENGTH :]
    code = rest[: int.from_bytes(length)]
    return code if code and hashlib.sha256(code).digest() == digest else None
