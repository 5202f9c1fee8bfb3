# ponder on CPU, or with --build-arg TARGET=cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 on an NVIDIA GPU.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG TARGET=cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The allocator that vLLM computes faster with on CPU, a compiler for what vLLM compiles at run time, and, in the CUDA base, Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libtcmalloc-minimal4 \
    && if ! command -v python3; then apt-get install --yes --no-install-recommends python3 python3-venv python3-dev; fi \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 ponder \
    && python3 -m venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/ponder
COPY locks locks
RUN if [ "$TARGET" = cpu ]; then \
        pip install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' locks/cpu.txt)"; \
    fi \
    && grep -v '+cpu$' "locks/$TARGET.txt" | pip install --no-deps --requirement /dev/stdin

COPY pyproject.toml README.md ./
COPY app app
COPY strategies strategies
COPY adapters adapters
RUN pip install --no-deps --no-build-isolation .

USER 10001
# The embedded model is converted at the first start, into the volume: the image stays free of weights that MODEL may replace.
ENV PONDER_HOST=0.0.0.0 PONDER_CACHE_DIR=/home/ponder/.cache/ponder PONDER_ADAPTER_DIR=/home/ponder/adapters
RUN mkdir -p /home/ponder/.cache/ponder /home/ponder/adapters
VOLUME /home/ponder/.cache /home/ponder/adapters
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["ponder", "serve"]
