# The daemon with what requirements/run.txt locks, run by a user of its own. compose.yaml starts it beside a broker.

FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/aliciacfg

# Before the sources, so that a change of them does not install everything anew.
COPY requirements/run.txt requirements/
# Wheels only: there is no compiler here, and a missing wheel should say so at once.
RUN /opt/aliciacfg/bin/pip install --only-binary :all: --require-hashes -r requirements/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/aliciacfg/bin/pip wheel --no-deps --wheel-dir dist . \
    && /opt/aliciacfg/bin/pip install --no-deps dist/*.whl


FROM python:3.11-slim-bookworm

# 1000 is the first user of most machines, so that mounted files have the same owner inside and outside. 1883 is the
# group of the broker in its image: it reads what `aliciacfg setup /access` writes.
ARG UID=1000
ARG GID=1000
# Not unique: the ids of whoever owns the mounted files may be ones that Debian has already.
RUN groupadd --non-unique --gid "$GID" aliciacfg \
    && useradd --non-unique --uid "$UID" --gid "$GID" --home-dir /app --no-create-home --shell /usr/sbin/nologin aliciacfg \
    && install --directory --owner "$UID" --group "$GID" --mode 0700 /data \
    && install --directory --owner "$UID" --group 1883 --mode 0750 /access \
    && install --directory --owner "$UID" --group "$GID" /app

WORKDIR /app
COPY --from=build /opt/aliciacfg /opt/aliciacfg
# .dockerignore keeps *-secrets.yaml out.
COPY --chown=$UID:$GID environments environments
COPY schemas schemas

ENV PATH=/opt/aliciacfg/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ALICIACFG_DATA_DIR=/data \
    ALICIACFG_ENVIRONMENTS_DIR=/app/environments \
    ALICIACFG_SCHEMAS_DIR=/app/schemas

USER $UID:$GID
EXPOSE 8026
STOPSIGNAL SIGTERM

# The slim image has no curl. No proxy: a container may inherit one that cannot reach its loopback.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=ssl._create_unverified_context())).open('http' + 's' * bool(os.environ.get('ALICIACFG_TLS_CERT')) + '://127.0.0.1:' + os.environ.get('ALICIACFG_HTTP_PORT', '8026') + '/health', timeout=4)"]

ENTRYPOINT ["aliciacfg"]
CMD ["serve"]
