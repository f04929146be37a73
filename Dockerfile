# syntax=docker/dockerfile:1

# One image for every role: `docker run IMAGE api`, `… relay`, `… project holdings`.

FROM rust:1-bookworm AS build
# What the Kafka client links to; the compiler is there.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends pkg-config zlib1g-dev libssl-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Queries are checked against the committed .sqlx: a build needs no database.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin insight \
    && install -D target/release/insight /out/insight

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g postgresql-common \
    # Backups are made by the pg_dump of the newest server: Debian's own is older, and refuses.
    && YES=yes /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh \
    && apt-get install --yes --no-install-recommends postgresql-client-17 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin insight \
    # A volume that is mounted here takes over whose it is.
    && install --directory --owner=insight /var/lib/insight/backups
COPY --from=build /out/insight /usr/local/bin/insight
USER insight
ENV LOG_FORMAT=json
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["insight"]
CMD ["--help"]
