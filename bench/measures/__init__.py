"""Every measurement, in the order of the table."""

from bench.measures import engine
from bench.run import Measurement

MEASUREMENTS = (Measurement("engine", "The engine directly, against raw `generate`", engine.measure),)
