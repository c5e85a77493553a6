import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import dotenv from 'dotenv';
import { WebSocketServer } from 'ws';

import { createPool } from './database.js';
import { createClient } from './redis.js';

const environment = process.env.NODE_ENV || 'development';
const root = path.resolve(fileURLToPath(new URL('.', import.meta.url)), '..');
dotenv.config({ path: path.join(root, environment === 'production' ? '.env.production' : '.env'), quiet: true });

const log = (level, msg, extra = {}) => console.log(JSON.stringify({ level, time: Date.now(), msg, ...extra }));

const pool = createPool(process.env);
pool.on('error', (err) => log('error', 'PostgreSQL connection lost', { err: err.message }));
// Like Mastodon, start only with a database that answers.
await pool.query('SELECT 1').catch((err) => {
  log('fatal', `Cannot reach PostgreSQL: ${err.message}`);
  process.exit(1);
});

const redis = createClient(process.env);
redis.on('error', (err) => log('error', 'Redis Client Error!', { err: err.message }));

// Redis channel -> set of callbacks.
const subscriptions = new Map();
const counters = { connected: 0, messages: 0 };

redis.on('message', (channel, message) => {
  counters.messages += 1;
  let json;
  try {
    json = JSON.parse(message);
  } catch (err) {
    log('error', 'A message is not JSON', { channel, err: err.message });
    return;
  }
  subscriptions.get(channel)?.forEach((callback) => callback(json));
});

function subscribe(channel, callback) {
  if (!subscriptions.has(channel)) {
    subscriptions.set(channel, new Set());
    redis.subscribe(channel).catch((err) => log('error', 'Cannot subscribe', { channel, err: err.message }));
  }
  subscriptions.get(channel).add(callback);
}

function unsubscribe(channel, callback) {
  const callbacks = subscriptions.get(channel);
  if (!callbacks?.delete(callback) || callbacks.size) return;
  subscriptions.delete(channel);
  redis.unsubscribe(channel).catch((err) => log('error', 'Cannot unsubscribe', { channel, err: err.message }));
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The account behind a request's token; streaming is for the signed in.
async function authenticate(request, query) {
  const token = request.headers.authorization?.replace(/^Bearer /, '') || query.get('access_token') || request.headers['sec-websocket-protocol'];
  if (!token) throw new Refused(401, 'Missing access token');

  const { rows } = await pool.query(
    `SELECT oauth_access_tokens.id, users.account_id
     FROM oauth_access_tokens INNER JOIN users ON oauth_access_tokens.resource_owner_id = users.id
     WHERE oauth_access_tokens.token = $1 AND oauth_access_tokens.revoked_at IS NULL AND NOT users.disabled LIMIT 1`,
    [token],
  );
  if (!rows.length) throw new Refused(401, 'Invalid access token');
  return { accountId: rows[0].account_id };
}

function channelOf(stream, { accountId }) {
  switch (stream) {
  case 'public':
    return 'timeline:public';
  case 'public:local':
    return 'timeline:public:local';
  case 'user':
    return `timeline:${accountId}`;
  default:
    throw new Refused(400, 'Unknown stream type');
  }
}

const answer = (response, status, body, type = 'text/plain; charset=utf-8') => {
  response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'private, no-store' });
  response.end(body);
};

const metrics = () => `# HELP connected_clients Number of clients connected to the streaming server
# TYPE connected_clients gauge
connected_clients{type="websocket"} ${counters.connected}
# HELP connected_channels Number of Redis channels the streaming server is subscribed to
# TYPE connected_channels gauge
connected_channels ${subscriptions.size}
# HELP redis_messages_received_total Total number of messages received from Redis
# TYPE redis_messages_received_total counter
redis_messages_received_total ${counters.messages}
# HELP process_resident_memory_bytes Resident memory size in bytes
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes ${process.memoryUsage.rss()}
`;

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/api/v1/streaming/health') answer(response, 200, 'OK');
  else if (pathname === '/metrics') answer(response, 200, metrics(), 'text/plain; version=0.0.4; charset=utf-8');
  else answer(response, 404, JSON.stringify({ error: 'Not found' }), 'application/json');
});

const sockets = new WebSocketServer({ noServer: true });

server.on('upgrade', async (request, socket, head) => {
  socket.on('error', (err) => log('warn', 'Socket error', { err: err.message }));
  try {
    const url = new URL(request.url, 'http://localhost');
    if (!/^\/api\/v1\/streaming\/?$/.test(url.pathname)) throw new Refused(404, 'Not found');
    const session = await authenticate(request, url.searchParams);
    const stream = url.searchParams.get('stream');
    if (stream) channelOf(stream, session);
    sockets.handleUpgrade(request, socket, head, (ws) => serve(ws, session, stream));
  } catch (err) {
    const status = err instanceof Refused ? err.status : 500;
    if (status === 500) log('error', 'Cannot authenticate', { err: err.message });
    const body = JSON.stringify({ error: status === 500 ? 'An unexpected error occurred' : err.message });
    socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }
});

function serve(ws, session, first) {
  counters.connected += 1;
  const open = new Map();
  ws.alive = true;
  ws.on('pong', () => { ws.alive = true; });
  ws.on('error', (err) => log('warn', 'WebSocket error', { err: err.message }));

  const start = (stream) => {
    if (open.has(stream)) return;
    const channel = channelOf(stream, session);
    const callback = ({ event, payload }) => {
      const text = typeof payload === 'object' ? JSON.stringify(payload) : payload;
      ws.send(JSON.stringify({ stream: [stream], event, payload: text }));
    };
    subscribe(channel, callback);
    open.set(stream, () => unsubscribe(channel, callback));
  };

  ws.on('message', (data) => {
    try {
      const { type, stream } = JSON.parse(data);
      if (type === 'subscribe') start(stream);
      if (type === 'unsubscribe') {
        open.get(stream)?.();
        open.delete(stream);
      }
    } catch (err) {
      ws.send(JSON.stringify({ error: err.message, status: err.status ?? 400 }));
    }
  });
  ws.on('close', () => {
    counters.connected -= 1;
    open.forEach((close) => close());
  });

  if (first) start(first);
}

setInterval(() => {
  sockets.clients.forEach((ws) => {
    if (!ws.alive) return ws.terminate();
    ws.alive = false;
    return ws.ping();
  });
}, 30000).unref();

if (process.env.SOCKET) {
  fs.rmSync(process.env.SOCKET, { force: true });
  server.listen(process.env.SOCKET, () => fs.chmodSync(process.env.SOCKET, 0o666));
} else {
  server.listen(Number(process.env.PORT || 4000), process.env.BIND || '127.0.0.1', () => log('info', `Streaming API now listening on ${server.address().address}:${server.address().port}`));
}

// At once: clients connect anew by themselves.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
