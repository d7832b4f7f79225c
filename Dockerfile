# The daemon with the dependencies of requirements/run.txt, run by an unprivileged user. compose.yaml adds a broker.

FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/aliciacfg

# Copied before the sources, so that a change of the sources does not reinstall the dependencies.
COPY requirements/run.txt requirements/
# Only wheels: the image has no compiler, and a missing wheel should fail at once.
RUN /opt/aliciacfg/bin/pip install --only-binary :all: --require-hashes -r requirements/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY src src
# The wheel carries them for `aliciacfg init --example alicia`.
COPY environments environments
COPY schemas schemas
RUN /opt/aliciacfg/bin/pip wheel --no-deps --wheel-dir dist . \
    && /opt/aliciacfg/bin/pip install --no-deps dist/*.whl


FROM python:3.11-slim-bookworm

# 1000 is the first user of most machines, so mounted files have the same owner inside and outside. 1883 is the broker's
# group in its image: it reads the files that `aliciacfg setup /access` writes.
ARG UID=1000
ARG GID=1000
# --non-unique, because Debian may already use the ids of the mounted files' owner.
RUN groupadd --non-unique --gid "$GID" aliciacfg \
    && useradd --non-unique --uid "$UID" --gid "$GID" --home-dir /app --no-create-home --shell /usr/sbin/nologin aliciacfg \
    && install --directory --owner "$UID" --group "$GID" --mode 0700 /data \
    && install --directory --owner "$UID" --group 1883 --mode 0750 /access \
    && install --directory --owner "$UID" --group "$GID" --mode 0700 /secrets \
    && install --directory --owner "$UID" --group "$GID" --mode 0700 /snapshot \
    && install --directory --owner "$UID" --group "$GID" /app

WORKDIR /app
COPY --from=build /opt/aliciacfg /opt/aliciacfg
# .dockerignore excludes *-secrets.yaml.
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

# Python, because the slim image has no curl. No proxy, because a proxy cannot reach the container's loopback.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=ssl._create_unverified_context())).open('http' + 's' * bool(os.environ.get('ALICIACFG_TLS_CERT')) + '://127.0.0.1:' + os.environ.get('ALICIACFG_HTTP_PORT', '8026') + '/health', timeout=4)"]

ENTRYPOINT ["aliciacfg"]
CMD ["serve"]
