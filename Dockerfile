# ponder on CPU, or with --build-arg TARGET=cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 on an NVIDIA GPU.
# With --build-arg RAY=1 it has Ray too, where a login shell finds it, as KubeRay starts it.
# Run it with --shm-size 1g: vLLM passes messages through 160 MiB of shared memory, Docker's default is 64.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG TARGET=cpu
ARG RAY=
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The allocator that vLLM computes faster with on CPU, a compiler for what vLLM compiles at run time, and, in the CUDA base, Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libtcmalloc-minimal4 \
    && if ! command -v python3; then apt-get install --yes --no-install-recommends python3 python3-venv python3-dev; fi \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 ponder && useradd --create-home --uid 10001 --gid 10001 ponder \
    && python3 -m venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/ponder
COPY locks locks
RUN if [ "$TARGET" = cpu ]; then \
        pip install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' locks/cpu.txt)"; \
    fi \
    && grep -v '+cpu$' "locks/$TARGET.txt" | pip install --no-deps --requirement /dev/stdin \
    && if [ -n "$RAY" ]; then \
        pip install --no-deps --requirement locks/ray.txt \
        && ln -s /opt/venv/bin/ray /usr/local/bin/ray; \
    fi

COPY pyproject.toml README.md ./
COPY scripts/hatch_build.py scripts/hatch_build.py
COPY ponder ponder
COPY app app
COPY strategies strategies
COPY adapters adapters
RUN pip install --no-deps --no-build-isolation .

# Numbers, so that Kubernetes sees that it is not root.
USER 10001:10001
# What is written at run time, so that the root file system may be read-only (with a /tmp from which nothing need be executed): the model
# that is converted at the first start, which keeps the image free of weights that MODEL may replace, and what torch and Triton compile.
ENV PONDER_HOST=0.0.0.0 \
    PONDER_CACHE_DIR=/home/ponder/.cache/ponder \
    PONDER_ADAPTER_DIR=/home/ponder/adapters \
    PONDER_POLICY_DIR=/home/ponder/policies \
    PONDER_LIVE_CALIBRATION_DIR=/home/ponder/policies/.live \
    TORCHINDUCTOR_CACHE_DIR=/home/ponder/.cache/torchinductor \
    TRITON_HOME=/home/ponder/.cache \
    CUDA_CACHE_PATH=/home/ponder/.cache/nv \
    VLLM_CONFIG_ROOT=/home/ponder/.cache/vllm
RUN mkdir -p /home/ponder/.cache/ponder /home/ponder/adapters /home/ponder/policies
VOLUME /home/ponder/.cache /home/ponder/adapters /home/ponder/policies
EXPOSE 8000
# The start may take as long as a large model takes to come from its hub.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1200s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["ponder", "serve"]
