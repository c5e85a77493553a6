# One version: its code on top of what all versions share.
ARG DEPENDENCIES
ARG STREAMING_DEPENDENCIES
ARG NODE

FROM ${NODE} AS packs
COPY code/ ./
RUN yarn run build:production

FROM ${DEPENDENCIES} AS compiled
COPY --chown=991:991 code/ ./
COPY --chown=991:991 --from=packs /opt/mastodon/public/packs public/packs
COPY --chown=991:991 --from=packs /opt/mastodon/public/sw.js /opt/mastodon/public/sw.js.map public/
# The bundles are there already: only what Rails makes is left to do.
RUN mkdir -p /tmp/bin && ln -s /bin/true /tmp/bin/yarn \
  && PATH=/tmp/bin:$PATH SECRET_KEY_BASE_DUMMY=1 bin/rails assets:precompile \
  && rm -rf vendor tmp/* \
  && mkdir -p public/system tmp/pids tmp/cache

FROM ${DEPENDENCIES} AS mastodon
COPY --chown=991:991 --from=compiled /opt/mastodon/ ./

FROM ${STREAMING_DEPENDENCIES} AS mastodon-streaming
COPY --chown=991:991 code/package.json ./
COPY --chown=991:991 code/streaming/ streaming/
