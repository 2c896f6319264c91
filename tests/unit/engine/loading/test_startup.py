"""The product's own way from a folder to an answer: plan, load, adapt, warm-up, self-check, one answer.

Two GPUs are simulated; everything in front of them is the product's. transformers dispatches the checkpoint over
them with accelerate's hooks, as it does over two real GPUs, which is where the first real start once failed.
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from app.contract.engine import Phase
from app.contract.options import Cleanup, Compile, DType
from app.contract.telemetry import AttentionChosen, Observers, PhaseChanged, PhaseProgress
from app.engine.attention.mla import AbsorbedAttention
from app.engine.errors import LoadError
from app.engine.health import Health
from app.engine.kv import storage
from app.engine.kv.pages import PAGE_SIZE
from app.engine.layers import experts
from app.engine.loading.compile_caches import VARIABLES
from app.engine.loading.startup import load_decoder
from app.engine.thread import build_runner
from app.local_engine import engine_config
from app.models.placement import Gpu
from app.models.selection import Selection
from app.settings import Settings
from tests.support.driving import Driver, Heard, reference
from tests.support.resident import by_small_pages, resident
from tests.support.simgpu import crossings, gpus
from tests.support.tiny import tiny_deepseek, tiny_llama

PROMPT = list(range(10, 150))
MIB = 2**20
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": tiny_llama,
    "llama with a head of its own": lambda: tiny_llama(tie_word_embeddings=False),
    "deepseek": lambda: tiny_deepseek(yarn=True),
}


@pytest.fixture(params=list(FAMILIES))
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return FAMILIES[request.param]


@pytest.fixture(autouse=True)
def _inference(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in (*VARIABLES, "CC"):
        monkeypatch.setenv(name, "")  # what a start on GPUs sets goes with the test
    monkeypatch.setattr(experts, "choose", functools.partial(experts.choose, seconds=0.01))  # else a second a start
    gpus()
    with torch.inference_mode():
        yield


class Started:
    """A model that the product's own code loaded on `count` simulated GPUs."""

    def __init__(self, folder: Path, count: int, **values: Any) -> None:
        self.heard = Heard()
        observers = Observers([self.heard])
        settings = Settings(
            dtype=DType.FLOAT32, prefill_chunk=48, gpu_reserve=0, cache_dir=folder / "cache", **values
        )
        present = tuple(Gpu(index, "simulated", 64 * MIB, 64 * MIB) for index in range(count))
        self.config = engine_config(settings, Selection(folder.name, folder, present, "a test"))
        self.shares = self.config.plan.shares
        self.observers = observers
        self.decoder = load_decoder(self.config, observers, Health(observers))

    def driver(self) -> Driver:
        driver: Driver
        runner = build_runner(self.config, self.decoder, self.observers, lambda emission: driver.take(emission))  # noqa: PLW0108  # the driver comes into being below
        driver = Driver(runner, runner._scheduler, self.heard)
        return driver

    def ask(self, prompt: list[int]) -> list[int]:
        return self.driver().ask("a", prompt)


def test_without_a_gpu_the_file_of_the_weights_leaves_memory(make: Callable[[], Any], tmp_path: Path) -> None:
    stock = make()
    stock.save_pretrained(tmp_path)
    expected = reference(stock, PROMPT)
    started = Started(tmp_path, 0)
    shares = [event.share for event in started.heard.events if isinstance(event, PhaseProgress)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert started.ask(PROMPT) == expected


@by_small_pages
@pytest.mark.parametrize("policy", list(Cleanup))
@pytest.mark.parametrize("make_one", [tiny_llama, lambda: tiny_deepseek(yarn=True, kv_lora_rank=112)])
def test_without_a_gpu_a_cleanup_gives_the_memory_of_free_pages_back(
    make_one: Callable[[], Any], policy: Cleanup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_OWN_PAGES", 1)  # a tiny model's buffers are small
    stock = make_one()
    stock.save_pretrained(tmp_path)
    prompts = {
        name: list(range(start, start + 4 * PAGE_SIZE + 1)) for name, start in (("a", 10), ("b", 30), ("c", 50))
    }
    expected = {name: reference(stock, prompt, 3) for name, prompt in prompts.items()}
    driver = Started(tmp_path, 0, cleanup=policy).driver()
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 3)
    driver.run()
    assert driver.tokens == expected
    pool, layer = driver.scheduler.kv.pool, driver.runner._executor._cache.storage(0)
    buffers = [layer] if isinstance(layer, torch.Tensor) else [layer.keys, layer.values]
    assert pool.cached == 4 * len(prompts), "what each has in its last page is too little to keep"
    written = pool.cached + (len(prompts) if policy is Cleanup.OFF else 0)
    assert [resident(buffer) for buffer in buffers] == [written * buffer[0].nbytes for buffer in buffers]
    assert {name: driver.ask(f"{name} again", prompt, 3) for name, prompt in prompts.items()} == expected


@pytest.mark.parametrize("count", [1, 2])
def test_a_saved_model_answers_as_generate_does(make: Callable[[], Any], count: int, tmp_path: Path) -> None:
    stock = make()
    stock.save_pretrained(tmp_path)
    expected = reference(stock, PROMPT)
    started = Started(tmp_path, count)
    assert [bool(share.layers) for share in started.shares] == [True] * count
    assert started.decoder.devices == list(gpus())[:count]
    driver = started.driver()
    assert set(started.decoder.parts) == ({48, 192} if count == 2 else set()), (
        "measured for the chunks that there are"
    )
    started.decoder.parts = {}  # what was best here may be another number each time
    with crossings() as recorded:
        assert driver.ask("a", PROMPT) == expected
    between = [crossing.shape for crossing in recorded if crossing.between_gpus]
    one, back = (1, 1, stock.config.hidden_size), [(1, 1, stock.config.hidden_size)]
    if not stock.config.tie_word_embeddings:  # a tied head is on the first GPU, with the embedding
        back = []
    steps = [(1, len(PROMPT), one[2]), *back, *([one, *back] * (len(expected) - 1))]
    assert between == (steps if count == 2 else []), "one hidden state for each step, and nothing else"


def test_the_attention_that_runs_over_two_gpus_is_the_absorbed_one(tmp_path: Path) -> None:
    tiny_deepseek(yarn=True).save_pretrained(tmp_path)
    decoder = Started(tmp_path, 2).decoder
    attentions = [layer.self_attn for layer in decoder._layers]
    assert all(_runs(attention) is AbsorbedAttention.forward for attention in attentions)


@pytest.mark.parametrize(("make_one", "decode"), [(tiny_llama, "matrix products"), (tiny_deepseek, "absorbed")])
def test_a_start_says_which_attention_runs(
    make_one: Callable[[], Any], decode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_one().save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="app.engine.loading.startup"):
        started = Started(tmp_path, 2)
    assert AttentionChosen(prefill="matrix products", decode=decode) in started.heard.events
    told = next(record.__dict__ for record in caplog.records if record.message == "the model is ready")
    assert (told["prefill"], told["decode"]) == ("matrix products", decode)


def test_a_start_that_cannot_compile_what_it_was_told_to_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_llama().save_pretrained(tmp_path)
    (tmp_path / "cache").touch()
    with pytest.raises(LoadError, match=r"COMPILE=layers cannot compile here: .*CACHE_DIR.*COMPILE=off"):
        Started(tmp_path, 2, compile=Compile.LAYERS)
    assert Started(tmp_path, 2).decoder.devices, "which without COMPILE does not end the start"


def test_compiling_layers_without_a_gpu_is_refused(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="COMPILE=layers is for GPUs"):
        Started(tmp_path, 0, compile=Compile.LAYERS)


def test_a_start_passes_through_its_phases(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    started = Started(tmp_path, 2)
    phases = [event.phase for event in started.heard.events if isinstance(event, PhaseChanged)]
    assert list(dict.fromkeys(phases)) == [Phase.LOADING, Phase.WARMING]


def _runs(module: Any) -> Any:
    """The function that a call of the module ends in."""
    assert isinstance(module, nn.Module)
    return getattr(module.forward, "__func__", module.forward)
