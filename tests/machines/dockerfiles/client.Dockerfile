# Docker's client is there, whose engine is the one of the machine that runs the tests, through the socket; and pip,
# because a build takes over its settings.
ARG SUITE
FROM stand-in/python-machine:${SUITE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends docker.io python3-pip \
    && rm -rf /var/lib/apt/lists/*
