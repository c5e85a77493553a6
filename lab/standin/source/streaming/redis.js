import { Redis } from 'ioredis';

// A URL (redis://, rediss://, unix://) wins over host and port; those never give TLS.
export function createClient(env) {
  const { REDIS_URL: url } = env;
  if (url?.startsWith('unix://')) return new Redis({ path: url.slice(7) });
  if (url) return new Redis(url);

  return new Redis({
    host: env.REDIS_HOST || '127.0.0.1',
    port: Number(env.REDIS_PORT || 6379),
    db: Number(env.REDIS_DB || 0),
    username: env.REDIS_USER || undefined,
    password: env.REDIS_PASSWORD || undefined,
  });
}
