# syntax=docker/dockerfile:1
#
# docker build -t patchgate .
#
# Both bases are arguments, so that a build can pin them by digest: --build-arg RUNTIME_IMAGE=…@sha256:…
# The runtime has Node and nothing else: no shell, no npm, no package manager.
ARG BUILD_IMAGE=docker.io/library/node:24-trixie-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian13:nonroot

FROM ${BUILD_IMAGE} AS source
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

# The packages of the process. None has an install script, and one that slipped in would not run here.
FROM source AS dependencies
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM source AS build
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.mjs scripts/
COPY src src
RUN node scripts/build.mjs

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="patchgate" \
      org.opencontainers.image.description="A gateway that lets a team share one Patchworks account" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV NODE_ENV=production
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY deploy/image/health.mjs health.mjs
# The user is a number, because Kubernetes cannot decide whether a name is root.
USER 65532:65532
EXPOSE 8080 9090
# SIGTERM drains. Give it longer than drain.delay and drain.timeout together before it is killed: docker stop -t 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/nodejs/bin/node", "/app/health.mjs"]
# There is no shell in between: Node is process 1 and receives the signals itself.
ENTRYPOINT ["/nodejs/bin/node", "/app/dist/main.js"]
CMD ["serve", "--config", "/etc/patchgate/gateway.yaml"]
