# The gateway: docker build -t cascade-gate . ; see docs/how-to/deploy.md
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
WORKDIR /src
COPY deploy/requirements.lock deploy/build.lock deploy/
# Every package by its hash; `make lock` chooses new versions. Compilers, pip and what only builds stay in this stage.
RUN python -m venv /opt/cascade \
    && /opt/cascade/bin/pip install --no-cache-dir --require-hashes -r deploy/requirements.lock \
    && python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r deploy/build.lock
COPY pyproject.toml README.md LICENSE policies.yaml ./
COPY cascade cascade
COPY judges judges
COPY evals evals
RUN /opt/build/bin/python -m hatchling build -t wheel -d /opt/build \
    && /opt/cascade/bin/pip install --no-cache-dir --no-index --no-deps /opt/build/*.whl \
    && /opt/cascade/bin/pip check && /opt/cascade/bin/pip uninstall --yes pip \
    && /opt/build/bin/cyclonedx-py environment /opt/cascade/bin/python --output-file /opt/cascade/sbom.cdx.json \
    && /opt/cascade/bin/python -m compileall -q /opt/cascade/lib

FROM ${BASE}
COPY --from=build /opt/cascade /opt/cascade
# The key file and an SQLite journal, where there is one; the policy file is mounted beside them or named by CASCADE_POLICIES.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/cascade cascade
USER 10001
WORKDIR /var/lib/cascade
VOLUME /var/lib/cascade
ENV PATH=/opt/cascade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CASCADE_HOST=0.0.0.0 \
    CASCADE_PORT=8000 \
    CASCADE_LOG_FORMAT=json \
    CASCADE_LOG_LEVEL=info
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['CASCADE_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["cascade"]
CMD ["serve", "--require-keys"]
