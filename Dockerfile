# Two images. `api` serves HTTP, migrates and makes keys, and holds no torch:
#   docker build --target api -t tailor-api .
# `worker` trains, and with `--control` prepares files and frees lost jobs:
#   docker build --target worker -t tailor-worker .                                          for NVIDIA GPUs
#   docker build --target worker --build-arg WORKER_BASE=python:3.11-slim -t tailor-worker .  for CPUs

ARG API_BASE=python:3.11-slim
ARG WORKER_BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04

FROM ${API_BASE} AS api
RUN useradd --uid 10001 --user-group --home-dir /var/lib/tailor --create-home tailor
ENV PATH=/opt/tailor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TAILOR_DATA_DIR=/var/lib/tailor \
    TAILOR_HOST=0.0.0.0 \
    TAILOR_PORT=8000
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY migrations migrations
RUN python3 -m venv /opt/tailor \
    && pip install --no-cache-dir -c constraints.txt . \
    && rm -rf build *.egg-info
WORKDIR /var/lib/tailor
USER tailor
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["tailor", "health", "api"]
CMD ["tailor", "serve"]

FROM ${WORKER_BASE} AS worker
RUN python3 -c 'import ensurepip' || { \
        apt-get update \
        && apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates \
        && rm -rf /var/lib/apt/lists/*; }
RUN useradd --uid 10001 --user-group --home-dir /var/lib/tailor --create-home tailor
ENV PATH=/opt/tailor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TAILOR_DATA_DIR=/var/lib/tailor
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY worker worker
COPY migrations migrations
RUN python3 -m venv /opt/tailor \
    && pip install --no-cache-dir -c constraints.txt '.[worker,starter]' \
    && rm -rf build *.egg-info
WORKDIR /var/lib/tailor
USER tailor
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 CMD ["tailor", "health", "worker"]
CMD ["tailor", "worker"]
