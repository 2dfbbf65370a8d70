# The image: the bundle on a Node without shell or package manager.

FROM node:24 AS build
WORKDIR /src
# Dependencies first: they change less often than the sources, and their layer is kept.
COPY package.json package-lock.json .npmrc ./
# No install script of any dependency runs.
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN node scripts/build.js

# Name a digest here when you release: a tag can move.
FROM gcr.io/distroless/nodejs24-debian13:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="entra-proxy" \
      org.opencontainers.image.description="A local HTTP gateway that adds Microsoft Entra tokens to requests for Azure" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV NODE_ENV=production
WORKDIR /app
# package.json says that the bundle is made of ES modules.
COPY --from=build /src/package.json ./
COPY --from=build /src/dist dist
COPY LICENSE ./
# A number, because runAsNonRoot cannot look a name up.
USER 65532:65532
# Both ports serve this pod; nothing is published by itself.
EXPOSE 8656 8657
# The exec form: the gateway is process 1 and gets SIGTERM itself. Without arguments it is `run`.
ENTRYPOINT ["/nodejs/bin/node", "/app/dist/entra-proxy.js"]
# No HEALTHCHECK: Kubernetes ignores it and asks /startupz and /livez, and there is no shell to run one.
