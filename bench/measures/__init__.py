"""Every measurement, in the order of the table."""

from bench.measures import baseline, batching, engine, gap, memory, mla, second_turn
from bench.run import Measurement

MEASUREMENTS = (
    Measurement("engine", "The engine directly, against raw `generate`", engine.measure),
    Measurement("baseline", "The whole stack, against one request at a time", baseline.measure, rounds=3),
    Measurement("batching", "The whole stack, against `transformers serve`", batching.measure, rounds=3),
    Measurement("second-turn", "The second turn of a conversation", second_turn.measure, rounds=7),
    Measurement("gap", "Streams beside a long prompt", gap.measure),
    Measurement("mla", "Attention in latent space", mla.measure),
    Measurement("memory", "Memory", memory.measure, rounds=1),
)
