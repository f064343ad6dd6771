# The image of the job: the first stage installs it, the second has nothing that installs.
# The classic builder suffices. The base may be any Debian that has Python 3.11 or newer with pip and venv.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
COPY requirements.txt requirements-build.txt /build/
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python3 install --require-hashes --requirement /build/requirements-build.txt \
    && python3 -m pip --python /opt/venv/bin/python3 install --require-hashes --no-build-isolation \
        --requirement /build/requirements.txt
COPY . /build/
RUN python3 -m pip --python /opt/venv/bin/python3 install --no-build-isolation --no-deps /build \
    && python3 -m pip --python /opt/venv/bin/python3 uninstall --yes editables hatchling setuptools wheel
# what no job opens goes: tests, headers and debug symbols of the libraries, fonts of PDF, and descriptions of AWS services that we do not call
RUN cd /opt/venv/lib/python3.*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -type f \( -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.py[ix]' -o -name '*.pxd' \) -exec rm {} + \
    && find . -type f \( -name '*.cpython-*.so' -o -name '*.abi3.so' \) -exec strip --strip-unneeded {} + \
    && rm -r matplotlib/mpl-data/sample_data matplotlib/mpl-data/fonts/afm matplotlib/mpl-data/fonts/pdfcorefonts \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d | grep -vE '/(batch|logs|s3|signin|sso|sso-oidc|sts)$' | xargs rm -r
# of imagecodecs those that decode TIFF stay, with the libraries that they load
RUN cd /opt/venv/lib/python3.*/site-packages \
    && codecs='ccitt|deflate|jpeg2k|jpeg8|jpegsof3|jpegxl|jpegxr|lerc|ljpeg|lzma|pixarlog|png|webp|zlib|zstd' \
    && find imagecodecs -name '_*.abi3.so' | grep -vE "/_(imcd|shared|shared_cython|$codecs)\." | xargs rm \
    && find imagecodecs.libs -type f | grep -vE '/lib(brotli|deflate|jpeg|jxl|jxr|lcms2|Lerc|lzma|openjp2|png|sharpyuv|webp|zstd)' | xargs rm
# a job compiles what jobs import, once: the root of a container may be read-only
RUN cd /tmp && /opt/venv/bin/nd-synapse demo && rm -r /tmp/demo

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
COPY driver.py container/entrypoint /app/
WORKDIR /app
# writable where the root is not, also where nobody can mount a tmpfs; what the user mounts there takes their place
VOLUME /tmp /app/results
USER 1000:1000
# -s: it reaps, too, where the engine has put an init of its own before it
ENTRYPOINT ["tini", "-s", "--", "/app/entrypoint"]
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
