FROM python:3.11-slim-bookworm

WORKDIR /app
RUN useradd --system --create-home --home-dir /data upkept
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && python -m uv pip install --system --no-cache --compile-bytecode --require-hashes -r requirements/run.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY connectors connectors
RUN python -m uv pip install --system --no-cache --compile-bytecode --no-deps --no-build-isolation .

USER upkept
ENV UPKEPT_HOME=/data/var UPKEPT_HOST=0.0.0.0 UPKEPT_LOG=json
EXPOSE 8080
CMD ["upkept", "web"]
