# Root has installed what `make up` asks for.
ARG SUITE
FROM stand-in/python-machine:${SUITE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx prometheus prometheus-nginx-exporter \
    && rm -rf /var/lib/apt/lists/*
