# One image for the API, the workers and the migration; the command decides which it is.
FROM python:3.13-slim-bookworm AS build
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

FROM python:3.13-slim-bookworm
# For archive-extract: bsdtar reads RAR. Debian keeps no older versions, so one that is named would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libarchive-tools \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin aerotask \
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
