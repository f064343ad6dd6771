# The image of the job: dependencies and code are made ready in the first stage, the second has no tool that did it.
# The classic builder suffices. The base may be any Debian that has Python 3.11 or newer with pip and venv.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.txt container/build-requirements.txt /build/
# intern has no wheel: what builds it is pinned as well, and goes again
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python3 install --no-compile --require-hashes --requirement /build/build-requirements.txt \
    && python3 -m pip --python /opt/venv/bin/python3 install --no-compile --require-hashes --no-build-isolation \
        --requirement /build/requirements.txt \
    && python3 -m pip --python /opt/venv/bin/python3 uninstall --yes setuptools wheel
# What no job opens goes: tests, sources of compiled modules, symbols for debuggers, AWS services that are not called.
# strip is for extension modules alone: it may break the libraries beside them, whose headers were rewritten.
COPY container/trim /build/
RUN /build/trim /opt/venv
COPY . /app
# The root may be read-only, and then Python would compile again and again. A job compiles what jobs import: the rest of
# the libraries, compiled, would be 40 MB.
RUN python3 -m compileall -q /app \
    && cd /app \
    && /opt/venv/bin/python3 -m local_boss.demo --path /tmp/demo \
    && rm -r /tmp/demo

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp synapse \
    && install --directory --mode 1777 /app/results /data
# one thread a process: the workers share the cores
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# writable where the root is not, also where nobody can mount a tmpfs; what the user mounts there takes their place
VOLUME /tmp /app/results
USER 1000:1000
# -s: it reaps, too, where the engine has put an init of its own before it
ENTRYPOINT ["tini", "-s", "--", "/app/container/entrypoint"]
ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="nd-synapse" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="${BASE_IMAGE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"
