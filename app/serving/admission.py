"""Admission: a request is taken before any 200 is sent, or refused with a 429 whose Retry-After is computed.

A tenant is refused only for what it has beyond its share (docs/decisions/0101-admission.md), or beyond its own terms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from app.contract.engine import Capacity
from app.contract.errors import Overloaded, PromptTooLong
from app.contract.events import Timings, Usage
from app.contract.terms import NO_TERMS, Terms
from app.serving.expected_wait import Stay, Work, stays
from app.serving.speed import AnswerLengths, Speed

PROMPT_CACHES = 4
"""The prompts inside may have this many times the KV cache's tokens together."""

_HOLDER = "this API key, or of all clients without a key,"

SHORTEST_RETRY, LONGEST_RETRY = 1, 600
"""Bounds of Retry-After, in seconds."""


class Reservation:
    """One admitted request: its place, and later its prompt. A second release does nothing."""

    def __init__(self, admission: "Admission", tenant: str, terms: Terms) -> None:
        self.tenant = tenant
        self.terms = terms
        self.prompt_tokens = 0  # 0: not known yet
        self.max_tokens = 0
        self.generated = 0
        self._admission = admission
        self._released = False

    def count_tokens(self, count: int) -> None:
        self.generated += count

    def count_speed(self, usage: Usage, timings: Timings) -> None:
        """Of an answer that succeeded. Where the usage lacks the prompt, it has the size that was reserved."""
        known = replace(usage, prompt_tokens=usage.prompt_tokens or self.prompt_tokens)
        self._admission.speed.count(known, timings)

    def count_length(self) -> None:
        """Of an answer that its client did not leave: how long others will be says only one that could end."""
        if self.generated:
            self._admission.lengths.count(self.generated)

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._admission.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Limits:
    """What of one tenant may be inside at once, and what of it remains at the moment. The tokens are those of
    prompts. It may have more while others leave it."""

    requests: int
    remaining_requests: int
    tokens: int
    remaining_tokens: int


@dataclass(frozen=True, slots=True)
class Size:
    """The tokens of a prompt, and the most that its answer may have."""

    prompt_tokens: int
    max_tokens: int


class Admission:
    """Bounds the requests inside by number, by the tokens of their prompts, and by the time that they would wait."""

    def __init__(self, max_waiting: int, max_wait: float) -> None:
        self.speed = Speed()
        self.lengths = AnswerLengths()
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._inside: dict[Reservation, None] = {}  # in the order of their arrival
        self._prompt_tokens = 0

    def max_requests(self, capacity: Capacity) -> int:
        return capacity.sequences + self._max_waiting

    def max_prompt_tokens(self, capacity: Capacity) -> int:
        return capacity.kv_tokens * PROMPT_CACHES

    def most_answers(self, capacity: Capacity, terms: Terms) -> int:
        """To one client's request."""
        return max(1, _least(self.max_requests(capacity), terms.requests))

    def limits(self, capacity: Capacity, tenant: str, terms: Terms = NO_TERMS) -> Limits:
        """The tenant's share, or what its terms allow of it."""
        own, own_tokens = self._held(tenant)
        requests = _least(self._share(self.max_requests(capacity), tenant), terms.requests)
        tokens = _least(self._share(self.max_prompt_tokens(capacity), tenant), terms.prompt_tokens)
        return Limits(
            requests=requests,
            remaining_requests=max(0, requests - own),
            tokens=tokens,
            remaining_tokens=max(0, tokens - own_tokens),
        )

    def enter(self, capacity: Capacity, tenant: str, terms: Terms = NO_TERMS) -> Reservation:
        """A place, before the prompt is even tokenized. Raises Overloaded."""
        share, (own, _) = self._share(self.max_requests(capacity), tenant), self._held(tenant)
        refusal, reason = None, "requests"
        if terms.requests is not None and own >= terms.requests:
            refusal = f"There are {own} requests of this API key inside, and its limit is {terms.requests}."
            reason = "key_requests"
        elif len(self._inside) >= self.max_requests(capacity) and own >= share:
            refusal = (
                f"There are {own} requests of {_HOLDER} running or waiting, and there may be {share} at the moment."
            )
        if refusal is not None:
            ends = self._ends(capacity, tenant)
            raise Overloaded(refusal, retry_after=_retry_after(min(ends, default=0.0)), reason=reason)
        reservation = Reservation(self, tenant, terms)
        self._inside[reservation] = None
        return reservation

    def take(self, reservations: Sequence[Reservation], sizes: Sequence[Size], capacity: Capacity) -> None:
        """The sizes of one client's request, which may want several answers. Raises Overloaded for all or none, and
        PromptTooLong for prompts that are more than the tenant may ever have.

        How long answers wait for others of the same request is the client's own affair: the wait of the first counts.
        """
        tenant = reservations[0].tenant
        wanted = sum(size.prompt_tokens for size in sizes)
        self._bound_by_terms(wanted, capacity, tenant, reservations[0].terms.prompt_tokens)
        self._bound_prompts(wanted, capacity, tenant)
        self._bound_wait(sizes[0], capacity, tenant)
        for reservation, size in zip(reservations, sizes, strict=True):
            reservation.prompt_tokens, reservation.max_tokens = size.prompt_tokens, size.max_tokens
            self._prompt_tokens += size.prompt_tokens

    def release(self, reservation: Reservation) -> None:
        del self._inside[reservation]
        self._prompt_tokens -= reservation.prompt_tokens

    def _held(self, tenant: str) -> tuple[int, int]:
        """The tenant's requests inside, and the tokens of their prompts."""
        own = [reservation for reservation in self._inside if reservation.tenant == tenant]
        return len(own), sum(reservation.prompt_tokens for reservation in own)

    def _share(self, whole: int, tenant: str) -> int:
        tenants = len({tenant, *(reservation.tenant for reservation in self._inside)})
        return min(whole, max(1, whole // tenants))

    def _bound_prompts(self, wanted: int, capacity: Capacity, tenant: str) -> None:
        bound, (_, own) = self.max_prompt_tokens(capacity), self._held(tenant)
        share = self._share(bound, tenant)
        if self._prompt_tokens + wanted <= bound or own + wanted <= share:
            return
        raise Overloaded(
            f"The prompts of requests of {_HOLDER} that run or wait have {own} tokens, this request's have {wanted}: "
            f"together they may have {share} at the moment.",
            retry_after=_retry_after(self._until_held(share - wanted, capacity, tenant)),
            reason="prompt_tokens",
        )

    def _bound_by_terms(self, wanted: int, capacity: Capacity, tenant: str, limit: int | None) -> None:
        if limit is None:
            return
        if wanted > limit:
            raise PromptTooLong(
                f"The prompts of this request have {wanted} tokens, and this API key's limit is {limit}."
            )
        _, own = self._held(tenant)
        if own + wanted > limit:
            raise Overloaded(
                f"The prompts of requests of this API key that run or wait have {own} tokens, this request's have "
                f"{wanted}: the limit of this key is {limit} together.",
                retry_after=_retry_after(self._until_held(limit - wanted, capacity, tenant)),
                reason="key_prompt_tokens",
            )

    def _until_held(self, most: int, capacity: Capacity, tenant: str) -> float:
        """Seconds until the tenant's prompts are expected to have so many tokens at most."""
        left, seconds = self._held(tenant)[1], 0.0
        for stay, reservation in self._leaving(capacity):
            if left <= most:
                break
            if reservation.tenant == tenant:
                left, seconds = left - reservation.prompt_tokens, stay.end
        return seconds

    def _bound_wait(self, size: Size, capacity: Capacity, tenant: str) -> None:
        if not self.speed.measured:  # an assumed speed or length refuses none
            return
        works = [self._work_of(held) for held in self._prompts_inside()]
        works.append(self._work(tenant, size.prompt_tokens, size.max_tokens, 0))
        wait = stays(works, capacity)[-1].start
        if wait > self._max_wait:
            raise Overloaded(
                f"The server is full: a new answer would begin in about {math.ceil(wait)} seconds, and may wait for "
                f"{self._max_wait:g}.",
                retry_after=_retry_after(wait - self._max_wait),
                reason="wait",
            )

    def _leaving(self, capacity: Capacity) -> list[tuple[Stay, Reservation]]:
        """The prompts inside, in the order in which they are expected to end."""
        inside = self._prompts_inside()
        works = [self._work_of(held) for held in inside]
        return sorted(zip(stays(works, capacity), inside, strict=True), key=lambda pair: pair[0].end)

    def _ends(self, capacity: Capacity, tenant: str) -> list[float]:
        return [stay.end for stay, reservation in self._leaving(capacity) if reservation.tenant == tenant]

    def _prompts_inside(self) -> list[Reservation]:
        return [reservation for reservation in self._inside if reservation.prompt_tokens]

    def _work_of(self, held: Reservation) -> Work:
        return self._work(held.tenant, held.prompt_tokens, held.max_tokens, held.generated)

    def _work(self, tenant: str, prompt_tokens: int, max_tokens: int, generated: int) -> Work:
        remaining = self.lengths.remaining(generated, max_tokens)
        return Work(
            seconds=self.speed.seconds(0 if generated else prompt_tokens, remaining),
            kv_tokens=prompt_tokens + generated + remaining,
            tenant=tenant,
        )


def _least(share: int, limit: int | None) -> int:
    return share if limit is None else min(share, limit)


def _retry_after(seconds: float) -> float:
    return float(min(LONGEST_RETRY, max(SHORTEST_RETRY, math.ceil(seconds))))
