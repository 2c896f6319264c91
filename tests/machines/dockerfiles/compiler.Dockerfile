# Where the stand-in for the library of NVIDIA's driver is compiled (tests/machines/gpus.py puts it into machines).
ARG SUITE
FROM stand-in/fresh-machine:${SUITE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY driver/nvml.c /
RUN gcc -Wall -Werror -O1 -shared -fPIC -o /libnvidia-ml.so.1 /nvml.c
