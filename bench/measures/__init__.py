"""Every measurement, in the order of the table."""

from bench.measures import (
    baseline,
    batching,
    engine,
    gap,
    gateway,
    host,
    memory,
    mla,
    neighbours,
    no_limit,
    overcommit,
    page_size,
    prefix,
    second_turn,
    slots,
    step,
    waste,
)
from bench.run import Measurement

MEASUREMENTS = (
    Measurement("engine", "The engine directly, against raw `generate`", engine.measure),
    Measurement("baseline", "The whole stack, against one request at a time", baseline.measure, rounds=3),
    Measurement("batching", "The whole stack, against `transformers serve`", batching.measure, rounds=3),
    Measurement("second-turn", "The second turn of a conversation", second_turn.measure, rounds=7),
    Measurement("gap", "Streams beside a long prompt", gap.measure),
    Measurement("mla", "Attention in latent space", mla.measure),
    Measurement("no-limit", "Chats without `max_tokens`", no_limit.measure, rounds=4),
    Measurement("slots", "Pages of KV memory, against slots for the whole length", slots.measure, rounds=3),
    Measurement("prefix", "Conversations behind one system prompt", prefix.measure, rounds=3),
    Measurement("overcommit", "Answers that need more KV memory than there is", overcommit.measure, rounds=3),
    Measurement("waste", "Allocated and unused KV memory", waste.measure, rounds=3),
    Measurement("step", "A step without its model", step.measure),
    Measurement("host", "The host's share of a GPU's step", host.measure),
    Measurement("page-size", "The size of a page", page_size.measure),
    Measurement("memory", "Memory", memory.measure, rounds=1),
    Measurement("gateway", "A remote engine, against the server that it asks", gateway.measure, rounds=3),
    Measurement("neighbours", "Beside what strangers do", neighbours.measure, rounds=3),
)
