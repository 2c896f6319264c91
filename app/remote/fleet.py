"""All servers that compute answers: asked how they are, and one of them chosen for each request."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from app.contract.requests import GenerationRequest
from app.remote.served import Served
from app.remote.upstream import Upstream

PROBE_SECONDS = 5.0
"""From one question whether a server is well to the next; less while it is not."""

_FIRST_PAUSE = 0.5  # seconds, doubled at each failure
_PREFIX = 1024  # characters, or ids, of a raw prompt
_SLACK, _TOLERANCE = 4, 1.25
"""A server keeps its conversations while it has at most this many times the requests of the idlest one, and some."""


class Asked(Protocol):
    """What is known of a server when one is chosen."""

    @property
    def name(self) -> str: ...

    @property
    def outstanding(self) -> int:
        """Requests that it has."""


One = TypeVar("One", bound=Asked)


class Fleet:
    """`wanted` is the model that all must serve; None: the one that the first of them lists. `known` is called once,
    when it is known what they serve."""

    def __init__(self, upstreams: Sequence[Upstream], wanted: str | None, known: Callable[[], None]) -> None:
        self._known = known
        self._upstreams = tuple(upstreams)
        self._wanted = wanted
        self._probes: list[asyncio.Task[None]] = []
        self.served: Served | None = None  # what the first server that answered serves

    @property
    def reachable(self) -> bool:
        return any(upstream.usable for upstream in self._upstreams)

    @property
    def context_tokens(self) -> int:
        """The least of the servers' that are known; 0: none is."""
        told = [one.served.context_tokens for one in self._upstreams if one.served]
        return min(filter(None, told), default=0)

    @property
    def detail(self) -> str:
        """What is wrong with those that cannot be used."""
        return "; ".join(f"{one.name}: {one.detail}" for one in self._upstreams if not one.usable)

    def start(self) -> None:
        self._probes = [asyncio.create_task(self._watch(upstream)) for upstream in self._upstreams]

    async def stop(self) -> None:
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        for upstream in self._upstreams:
            await upstream.close()

    def choose(self, affinity: bytes, tried: Collection[Upstream]) -> Upstream | None:
        """The server with the fewest requests; rather the one that has this conversation's prefix in its cache,
        unless that has many more. A server on trial gets one request at a time. None when none is left."""
        usable = [one for one in self._upstreams if one.usable and one not in tried]
        proven = [one for one in usable if one.circuit.state == "up" or not one.outstanding]
        candidates = proven or usable
        return preferred(candidates, affinity) if candidates else None

    async def _watch(self, upstream: Upstream) -> None:
        pause = _FIRST_PAUSE
        while True:
            asked = self._wanted
            await upstream.probe(asked)
            if self.served is None and upstream.served is not None:
                self.served, self._wanted = upstream.served, upstream.served.name
                self._known()
            elif asked is None and self._wanted is not None:  # meanwhile another server's first model was taken
                upstream.served = None
                continue
            pause = _FIRST_PAUSE if upstream.usable else min(PROBE_SECONDS, pause * 2)
            await self._pause(upstream, PROBE_SECONDS if upstream.usable else pause)

    async def _pause(self, upstream: Upstream, seconds: float) -> None:
        """Until it is asked again: at once where requests have put down the last server that there was, since nobody
        is answered until then."""
        upstream.fell.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(upstream.fell.wait(), seconds)
            if self.reachable:
                await asyncio.sleep(PROBE_SECONDS)


def preferred(candidates: Sequence[One], affinity: bytes) -> One:
    """The one that has the conversation, unless it has many more requests than the idlest, which gets it then."""
    ranked = sorted(candidates, key=lambda one: _rank(one, affinity))
    home, idlest = ranked[0], min(ranked, key=lambda one: one.outstanding)
    return home if home.outstanding <= idlest.outstanding * _TOLERANCE + _SLACK else idlest


def affinity_of(request: GenerationRequest) -> bytes:
    """The same for all requests of one conversation: a digest of its tenant and of how it begins."""
    digest = hashlib.blake2b(request.tenant.encode(), digest_size=16)
    for message in request.messages:
        digest.update(f"\0{message.role}\0{message.content}".encode(errors="replace"))
        if message.role == "user":
            break
    if request.prompt is not None:
        digest.update(repr(request.prompt[:_PREFIX]).encode(errors="replace"))
    return digest.digest()


def _rank(upstream: Asked, affinity: bytes) -> bytes:
    """Rendezvous hashing: a server that comes or goes moves only its own conversations."""
    return hashlib.blake2b(affinity + upstream.name.encode(), digest_size=8).digest()
