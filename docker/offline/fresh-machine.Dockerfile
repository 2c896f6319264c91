# A Debian machine on which nothing of ours has ever run: what fresh-machine.sh starts.
ARG SUITE=bookworm
# hadolint ignore=DL3006
FROM stand-in/debian:${SUITE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git make \
    && rm -rf /var/lib/apt/lists/*
