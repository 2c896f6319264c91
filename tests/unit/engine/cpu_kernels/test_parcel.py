import pytest

from app.engine.cpu_kernels.parcel import packed, unpacked

CODE = bytes(range(256)) * 20


def test_code_arrives_whatever_is_written_around_it() -> None:
    assert unpacked(packed(CODE)) == CODE
    assert unpacked(b"a site says hello\n" + packed(CODE) + b"and goodbye\n") == CODE


@pytest.mark.parametrize("output", [b"", b"hello\n", packed(b""), packed(CODE)[:-1], packed(CODE)[:30]])
def test_what_is_not_whole_is_none(output: bytes) -> None:
    assert unpacked(output) is None


def test_a_changed_byte_is_noticed() -> None:
    output = bytearray(packed(CODE))
    output[-5] ^= 1
    assert unpacked(bytes(output)) is None
