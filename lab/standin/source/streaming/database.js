import pg from 'pg';
import { parse } from 'pg-connection-string';

// Settings for a pg.Pool. TLS differs from Rails' (libpq) with the same DB_SSLMODE: unset or `disable` is none,
// `no-verify` is unverified, and anything else verifies the server against the known authorities (and
// NODE_EXTRA_CA_CERTS).
export function configFromEnv(env) {
  const common = { max: Number(env.DB_POOL || 10), connectionTimeoutMillis: 15000, application_name: '' };

  if (env.DATABASE_URL) {
    const { host, port, user, password, database, ssl } = parse(env.DATABASE_URL);
    return { ...common, host, port: Number(port || 5432), user, password: password || env.DB_PASS, database, ssl };
  }

  const config = {
    ...common,
    host: env.DB_HOST || 'localhost',
    port: Number(env.DB_PORT || 5432),
    user: env.DB_USER || 'mastodon',
    password: env.DB_PASS || '',
    database: env.DB_NAME || 'mastodon_production',
  };
  switch (env.DB_SSLMODE) {
  case undefined:
  case '':
  case 'disable':
    return { ...config, ssl: false };
  case 'no-verify':
    return { ...config, ssl: { rejectUnauthorized: false } };
  default:
    return { ...config, ssl: {} };
  }
}

export const createPool = (env) => new pg.Pool(configFromEnv(env));
