# One image for the API, the workers and the migration; the command decides which it is.
FROM python:3.13-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8 AS build
WORKDIR /src
COPY deploy/tools.lock.txt deploy/requirements.lock deploy/
RUN python -m pip install --no-cache-dir --require-hashes -r deploy/tools.lock.txt
RUN python -m venv /opt/aerotask \
 && uv pip install --python /opt/aerotask/bin/python --compile-bytecode --require-hashes -r deploy/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY migrations migrations
RUN uv build --wheel --no-build-isolation --out-dir dist \
 && uv pip install --python /opt/aerotask/bin/python --compile-bytecode --no-deps dist/*.whl

FROM postgres:18-bookworm@sha256:1961f96e6029a02c3812d7cb329a3b03a3ac2bb067058dec17b0f5596aca9296 AS postgres

FROM python:3.13-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8
# For archive-extract: bsdtar reads RAR. For backup and restore: pg_dump and pg_restore of the compose file's Postgres,
# whose image has the address and the key of their repository. Repositories keep no older versions, so one that is named would soon be gone.
COPY --from=postgres /etc/apt/sources.list.d/pgdg.list /etc/apt/sources.list.d/
COPY --from=postgres /usr/local/share/keyrings/postgres.gpg.asc /usr/local/share/keyrings/
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libarchive-tools postgresql-client-18 \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 aerotask \
 && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin aerotask \
 && install -d -o aerotask -g aerotask -m 0700 /var/lib/aerotask
COPY --from=build /opt/aerotask /opt/aerotask
ENV PATH=/opt/aerotask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AEROTASK_MODE=production \
    AEROTASK_STORAGE_URL=file:///var/lib/aerotask \
    AEROTASK_LOG_FORMAT=json
USER 10001
VOLUME /var/lib/aerotask
EXPOSE 8000
ENTRYPOINT ["aerotask"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
