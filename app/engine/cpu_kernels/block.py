"""The numbers that a kernel's threads share, `int64_t block[MOST]`: three counters, then the task's arguments."""

HEAD = 3  # items taken, items in all, workers counted
MOST = 16
