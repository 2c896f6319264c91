# Python is there, as on most Debians.
ARG SUITE
FROM stand-in/account-machine:${SUITE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
