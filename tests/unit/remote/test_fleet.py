"""Which server is asked."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.remote.fleet import Fleet, affinity_of
from app.remote.served import Served
from app.remote.upstream import Upstream

REQUEST = GenerationRequest(
    id="r",
    operation=Operation.CHAT,
    sampling=SamplingParams(seed=1),
    messages=(Message("system", "Be brief."), Message("user", "hi")),
)


@pytest.fixture
async def upstreams() -> AsyncIterator[list[Upstream]]:
    made = [Upstream(f"http://host{number}:8000/v1", None, 4, lambda _: None) for number in range(4)]
    for one in made:
        one.served = Served("m")
        one.circuit.found_well()
    yield made
    for one in made:
        await one.close()


def fleet(upstreams: list[Upstream]) -> Fleet:
    return Fleet(upstreams, None, lambda: None)


def test_a_conversation_has_one_key_as_it_grows() -> None:
    later = replace(REQUEST, messages=(*REQUEST.messages, Message("assistant", "hello"), Message("user", "and?")))
    assert affinity_of(later) == affinity_of(REQUEST)
    for other in (
        replace(REQUEST, tenant="blue"),
        replace(REQUEST, messages=(Message("system", "Be brief."), Message("user", "ho"))),
        replace(REQUEST, messages=(Message("user", "hi"),)),
        replace(REQUEST, messages=(), prompt="hi"),
        replace(REQUEST, messages=(), prompt=(1, 2)),
    ):
        assert affinity_of(other) != affinity_of(REQUEST)


def test_conversations_spread_and_stay(upstreams: list[Upstream]) -> None:
    keys = [f"{number}".encode() for number in range(400)]
    before = {key: fleet(upstreams).choose(key, ()) for key in keys}
    counts = Counter(before.values())
    assert len(counts) == 4
    assert min(counts.values()) > 60
    gone, rest = upstreams[0], upstreams[1:]
    for key, home in before.items():
        if home is not gone:
            assert fleet(rest).choose(key, ()) is home, "only the conversations of the one that is gone move"


def test_a_busy_home_is_given_up_for_the_idlest(upstreams: list[Upstream]) -> None:
    home = fleet(upstreams).choose(b"k", ())
    assert home is not None
    home.outstanding = 4
    assert fleet(upstreams).choose(b"k", ()) is home
    home.outstanding = 5
    others = [one for one in upstreams if one is not home]
    others[0].outstanding = others[1].outstanding = 1
    assert fleet(upstreams).choose(b"k", ()) is others[2]


def test_who_is_down_or_was_tried_is_not_asked(upstreams: list[Upstream]) -> None:
    asked = [fleet(upstreams).choose(b"k", upstreams[:number]) for number in range(5)]
    assert asked[-1] is None
    assert asked[3] is upstreams[3]
    for one in upstreams[1:]:
        one.circuit.failed(surely=True)
    assert fleet(upstreams).choose(b"k", ()) is upstreams[0]
    upstreams[0].served = None
    assert fleet(upstreams).choose(b"k", ()) is None
    assert not fleet(upstreams).reachable


def test_one_on_trial_gets_one_request_unless_there_is_no_other(upstreams: list[Upstream]) -> None:
    home = fleet(upstreams).choose(b"k", ())
    assert home is not None
    home.circuit.failed(surely=True)
    home.circuit.found_well()
    assert fleet(upstreams).choose(b"k", ()) is home
    home.outstanding = 1
    assert fleet(upstreams).choose(b"k", ()) is not home
    assert fleet([home]).choose(b"k", ()) is home


def test_the_least_context_that_is_known_counts(upstreams: list[Upstream]) -> None:
    assert fleet(upstreams).context_tokens == 0
    upstreams[0].served, upstreams[1].served = Served("m", "", 4096), Served("m", "", 2048)
    assert fleet(upstreams).context_tokens == 2048


def test_names_have_no_passwords() -> None:
    upstream = Upstream("https://user:secret@host:1/v1/", None, 1, lambda _: None)
    assert (upstream.name, upstream.address) == ("host:1", "https://user:secret@host:1/v1")
    assert Upstream("http://host/openai", None, 1, lambda _: None).name == "host/openai"
