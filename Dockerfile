# A peer in a container. Build and join a run:
#
#   docker build -t paceline .
#   docker run -v paceline:/data -v ./run.json:/run.json:ro -p 4001:4001 -p 9100:9100 \
#       paceline join /run.json --config /app/configs/container.yaml
#
# Add --gpus all for a machine with GPUs, and --set network.announce=[/ip4/<public address>/tcp/4001] behind a
# router. The volume keeps the peer's key, log and checkpoints.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 paceline \
    && mkdir /data \
    && chown paceline:paceline /data

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir .
COPY configs ./configs

USER paceline
VOLUME /data
WORKDIR /data

# 4001 is the peer itself, 9100 its /metrics and /healthz: see configs/container.yaml.
EXPOSE 4001 9100

# Ill is who does not answer, or answers 503: both raise. The imports before a peer is up take a while.
HEALTHCHECK --interval=30s --timeout=10s --start-period=180s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9100/healthz', timeout=5)"]

# Ctrl-C and `docker stop` let the peer leave in order.
STOPSIGNAL SIGTERM
ENTRYPOINT ["paceline"]
CMD ["--help"]
