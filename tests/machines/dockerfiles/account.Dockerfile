# Somebody has an account, and may not install anything.
ARG SUITE
FROM stand-in/fresh-machine:${SUITE}
RUN useradd --create-home --shell /bin/bash somebody
