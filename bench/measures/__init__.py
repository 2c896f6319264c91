"""Every measurement, in the order of the table."""

from bench.measures import baseline, engine
from bench.run import Measurement

MEASUREMENTS = (
    Measurement("engine", "The engine directly, against raw `generate`", engine.measure),
    Measurement("baseline", "The whole stack, against one request at a time", baseline.measure, rounds=3),
)
