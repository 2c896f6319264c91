"""Who decides which box is asked: nginx, Ray Serve, or this app as a gateway, whose own rule it is."""

import hashlib
import random
from collections.abc import Callable, Sequence

from app.remote.fleet import preferred
from bench.simulation.box import Box

Balance = Callable[[Sequence[Box], str], Box]
"""The box for a conversation, by its name."""


def least_connections(seed: int) -> Balance:
    """nginx's `least_conn`: the fewest open requests, and those that have as few in turn."""
    chance = random.Random(seed)

    def choose(boxes: Sequence[Box], _conversation: str) -> Box:
        fewest = min(box.outstanding for box in boxes)
        return chance.choice([box for box in boxes if box.outstanding == fewest])

    return choose


def by_key(boxes: Sequence[Box], conversation: str) -> Box:
    """nginx's consistent hash of the API key: a box that is lost moves its own conversations alone."""
    return min(boxes, key=lambda box: hashlib.blake2b(f"{box.name} {conversation}".encode(), digest_size=8).digest())


def two_choices(seed: int) -> Balance:
    """Ray Serve's: the shorter queue of two by chance."""
    chance = random.Random(seed)

    def choose(boxes: Sequence[Box], _conversation: str) -> Box:
        return min(chance.sample(list(boxes), min(2, len(boxes))), key=lambda box: box.outstanding)

    return choose


def gateway(boxes: Sequence[Box], conversation: str) -> Box:
    """The remote engine's (`app/remote/fleet.py`): the box that has the conversation, unless it has many more."""
    return preferred(boxes, conversation.encode())


BALANCES: dict[str, Callable[[int], Balance]] = {
    "nginx, least_conn": least_connections,
    "nginx, by key": lambda _seed: by_key,
    "Ray Serve": two_choices,
    "a gateway": lambda _seed: gateway,
}
"""By names for people, from a seed."""
