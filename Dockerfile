# One file, one target a program: proxy-client, proxy-server, http-target, loadgen.
#
#   docker build --target proxy-client .
#
# Everything here builds with BuildKit and with the legacy builder alike. The legacy builder makes every stage above the
# target, so the order of the stages is the order of what they cost.
#
# The proxies have the native engine where its wheel is in wheelhouse/ (`make native`, or the target `native` at the end).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG RUST_IMAGE=rust:1-slim-bookworm

# What every final stage is: Python, a user without a name or rights, and the two directories that volumes are mounted on
# (a new volume takes its owner from here).
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN install -d -o 10001 -g 10001 -m 0700 /certificates /reports
COPY deploy/probe /usr/local/bin/probe
USER 10001:10001
WORKDIR /
STOPSIGNAL SIGTERM

# finback's own distributions as wheels; the build tools stay in this stage.
FROM ${PYTHON_IMAGE} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements-build.lock ./
RUN pip install --quiet --require-hashes -r requirements-build.lock
COPY packages/servicekit packages/servicekit
COPY packages/tunnel packages/tunnel
COPY services services
COPY loadgen loadgen
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels \
    ./packages/servicekit ./packages/tunnel ./services/proxy-client ./services/proxy-server ./services/http-target ./loadgen

# The three services share one environment, so that their images share one layer.
FROM ${PYTHON_IMAGE} AS services
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /venv
COPY services/requirements.lock /
RUN pip --python /venv/bin/python install --quiet --require-hashes -r /requirements.lock
# A pattern may match nothing; what has a name must be there.
COPY wheelhouse/README.md wheelhouse/quinn_engine-*linux*.whl /wheels/
COPY --from=wheels /wheels/servicekit-*.whl /wheels/tunnel-*.whl /wheels/proxy_*.whl /wheels/http_target-*.whl /wheels/
RUN for wheel in /wheels/quinn_engine-*.whl; do [ ! -e "$wheel" ] \
    || pip --python /venv/bin/python install --quiet --no-index --no-deps "$wheel" \
    || echo "without the native engine: $wheel is not for this image"; rm -f "$wheel"; done
RUN pip --python /venv/bin/python install --quiet --no-index --no-deps /wheels/*.whl

FROM runtime AS proxy-client
COPY --from=services /venv /venv
ENV PROXY_CLIENT_LISTEN=0.0.0.0:1080 PROXY_CLIENT_METRICS_LISTEN=0.0.0.0:9101
EXPOSE 1080/tcp 9101/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["probe", "9101", "healthz"]
ENTRYPOINT ["proxy-client"]

FROM runtime AS proxy-server
COPY --from=services /venv /venv
ENV PROXY_SERVER_LISTEN=0.0.0.0:4433 PROXY_SERVER_METRICS_LISTEN=0.0.0.0:9102
EXPOSE 4433/udp 9102/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["probe", "9102", "healthz"]
ENTRYPOINT ["proxy-server"]

FROM runtime AS http-target
COPY --from=services /venv /venv
ENV HTTP_TARGET_LISTEN=0.0.0.0:8080 HTTP_TARGET_SERVER_FIRST_LISTEN=0.0.0.0:8081 HTTP_TARGET_METRICS_LISTEN=0.0.0.0:9103
EXPOSE 8080/tcp 8081/tcp 9103/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["probe", "9103", "healthz"]
ENTRYPOINT ["http-target"]

FROM ${PYTHON_IMAGE} AS tester
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /venv
COPY loadgen/requirements.lock /
RUN pip --python /venv/bin/python install --quiet --require-hashes -r /requirements.lock
COPY --from=wheels /wheels/servicekit-*.whl /wheels/loadgen-*.whl /wheels/
RUN pip --python /venv/bin/python install --quiet --no-index --no-deps /wheels/*.whl

FROM runtime AS loadgen
COPY --from=tester /venv /venv
EXPOSE 9104/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["probe", "9104", "healthz"]
ENTRYPOINT ["loadgen"]

# The wheel of the native engine, for a machine that has Docker and no Rust: `make native-wheel` builds it and takes it out.
FROM ${RUST_IMAGE} AS native
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv >/dev/null && rm -rf /var/lib/apt/lists/*
COPY requirements-build.lock /
RUN python3 -m venv /build && /build/bin/pip install --quiet --require-hashes -r /requirements-build.lock
COPY packages/quinn-engine /source
RUN /build/bin/maturin build --quiet --release -i /build/bin/python -m /source/Cargo.toml -o /wheelhouse
