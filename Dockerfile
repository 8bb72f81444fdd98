# Two images from one file:
#   docker build -t rill .                      on a CPU (the default, and what a hosted Docker Space builds)
#   docker build -t rill:gpu --target gpu .     on an NVIDIA GPU; run it with --gpus all
# Run:  docker run --rm -p 127.0.0.1:7860:7860 rill       and open the printed link

# An exact tag; its digest is not pinned.
FROM python:3.11.14-slim-trixie AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RILL_CACHE=/home/rill/.cache/rill
RUN useradd --create-home --uid 1000 rill
WORKDIR /app
COPY requirements.txt ./
COPY locks locks

FROM base AS packages-gpu
# torch.compile calls a C compiler when a kernel is built for the first time.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m locks.install_torch --build default \
    && pip install --require-hashes --no-deps -r locks/gpu.txt

FROM base AS packages-cpu
# torch first and alone, from the index without CUDA; the default build is several gigabytes larger.
RUN python -m locks.install_torch --build cpu \
    && pip install --require-hashes --no-deps -r locks/run.txt

FROM packages-gpu AS gpu
COPY . .
USER rill
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# SPACE_HOST is set by the host of a Docker Space, a trusted proxy; a Space is a public demo. Elsewhere a browser
# needs the printed link (docs/security.md).
CMD ["sh", "-c", "exec python app.py serve --host 0.0.0.0 --port 7860 ${SPACE_HOST:+--trusted-proxy --public}"]

FROM packages-cpu AS cpu
COPY . .
USER rill
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["sh", "-c", "exec python app.py serve --host 0.0.0.0 --port 7860 ${SPACE_HOST:+--trusted-proxy --public}"]
