"""What the kernels of one kind of layer are compiled for: plain data, that crosses to the process that compiles."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """`width` is the hidden state's, `inner` the gate's."""

    dtype: str  # in memory: "float32" or "bfloat16"
    heads: int
    key_heads: int
    dim: int
    scaling: float
    width: int
    inner: int
    epsilon: float
    page: int  # tokens in a page of the KV cache

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def of_json(text: str) -> "Shape":
        return Shape(**json.loads(text))
