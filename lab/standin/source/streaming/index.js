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
const redis = createClient(process.env);
redis.on('error', (err) => log('error', 'Redis Client Error!', { err: err.message }));

// Redis channel -> set of callbacks.
const subscriptions = new Map();
const counters = { connected: 0, events: 0, messages: 0, sent: 0 };

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

// The stream that a path below /api/v1/streaming/ names; undefined if it is none.
function streamOf(pathname) {
  const name = /^\/api\/v1\/streaming\/(user|user\/notification|(?:public|hashtag)(?:\/local)?|public\/remote|direct|list)$/.exec(pathname)?.[1];
  return name?.replace('/', ':');
}

// The Redis channel behind a stream.
function channelOf(stream, { accountId }, { tag, list }) {
  switch (stream) {
  case 'public':
  case 'public:local':
  case 'public:remote':
    return `timeline:${stream}`;
  case 'user':
    return `timeline:${accountId}`;
  case 'user:notification':
    return `timeline:${accountId}:notifications`;
  case 'direct':
    return `timeline:direct:${accountId}`;
  case 'hashtag':
  case 'hashtag:local':
    if (!tag) throw new Refused(400, 'Missing tag name parameter');
    return `timeline:${stream.replace('hashtag', `hashtag:${tag.toLowerCase()}`)}`;
  case 'list':
    if (!list) throw new Refused(400, 'Missing list name parameter');
    throw new Refused(401, 'Not authorized to stream this list');
  default:
    throw new Refused(400, 'Unknown stream type');
  }
}

const cors = { 'Access-Control-Allow-Origin': '*' };

const answer = (response, status, body, type = 'text/plain', headers = {}) => {
  response.writeHead(status, { ...(type && { 'Content-Type': type }), ...cors, ...headers });
  response.end(body);
};
const uncached = { 'Cache-Control': 'private, no-store' };

const metrics = () => `# HELP connected_clients Number of clients connected to the streaming server
# TYPE connected_clients gauge
connected_clients{type="websocket"} ${counters.connected}
connected_clients{type="eventsource"} ${counters.events}
# HELP redis_subscriptions Number of Redis channels the streaming server is subscribed to
# TYPE redis_subscriptions gauge
redis_subscriptions ${subscriptions.size}
# HELP redis_messages_received_total Total number of messages received from Redis
# TYPE redis_messages_received_total counter
redis_messages_received_total ${counters.messages}
# HELP messages_sent_total Total number of messages sent to clients
# TYPE messages_sent_total counter
messages_sent_total ${counters.sent}
# HELP process_resident_memory_bytes Resident memory size in bytes
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes ${process.memoryUsage.rss()}
`;

const server = http.createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const read = ['GET', 'HEAD'].includes(request.method);
  if (read && pathname === '/api/v1/streaming/health') return answer(response, 200, 'OK', 'text/plain', uncached);
  if (read && pathname === '/metrics') return answer(response, 200, metrics(), 'text/plain; version=0.0.4; charset=utf-8', uncached);
  if (read && pathname === '/favicon.ico') return answer(response, 404, '', null);
  if (request.method === 'OPTIONS') return answer(response, 204, '', null, { 'Access-Control-Allow-Methods': 'GET,HEAD,PUT,PATCH,POST,DELETE' });

  try {
    const stream = streamOf(pathname);
    if (!stream) throw new Refused(400, 'Unknown channel requested');
    const session = await authenticate(request, searchParams);
    if (!read) return answer(response, 404, `Cannot ${request.method} ${pathname}`, 'text/html; charset=utf-8');
    return serveEvents(request, response, channelOf(stream, session, Object.fromEntries(searchParams)));
  } catch (err) {
    const { status, message } = refusal(err);
    return answer(response, status, JSON.stringify({ error: message }), 'application/json');
  }
});

function refusal(err) {
  if (err instanceof Refused) return { status: err.status, message: err.message };
  log('error', 'Cannot authenticate', { err: err.message });
  return { status: 500, message: 'An unexpected error occurred' };
}

// Server-sent events, for clients without WebSockets.
function serveEvents(request, response, channel) {
  counters.events += 1;
  response.writeHead(200, { 'Content-Type': 'text/event-stream', ...uncached, ...cors });
  response.write(':)\n');
  const heartbeat = setInterval(() => response.write(':thump\n\n'), 15000);
  const callback = ({ event, payload }) => {
    counters.sent += 1;
    response.write(`event: ${event}\ndata: ${typeof payload === 'object' ? JSON.stringify(payload) : payload}\n\n`);
  };
  subscribe(channel, callback);
  request.on('close', () => {
    counters.events -= 1;
    clearInterval(heartbeat);
    unsubscribe(channel, callback);
  });
}

const sockets = new WebSocketServer({ noServer: true });

server.on('upgrade', async (request, socket, head) => {
  socket.on('error', (err) => log('warn', 'Socket error', { err: err.message }));
  try {
    const { searchParams } = new URL(request.url, 'http://localhost');
    const session = await authenticate(request, searchParams);
    sockets.handleUpgrade(request, socket, head, (ws) => serve(ws, session, Object.fromEntries(searchParams)));
  } catch (err) {
    const { status, message } = refusal(err);
    socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nX-Error-Message: ${message}\r\n\r\n`);
  }
});

function serve(ws, session, first) {
  counters.connected += 1;
  const open = new Map();
  ws.alive = true;
  ws.on('pong', () => { ws.alive = true; });
  ws.on('error', (err) => log('warn', 'WebSocket error', { err: err.message }));

  const start = (params) => {
    const channel = channelOf(params.stream, session, params);
    if (open.has(channel)) return;
    const name = [params.stream, params.tag].filter(Boolean);
    const callback = ({ event, payload }) => {
      counters.sent += 1;
      const text = typeof payload === 'object' ? JSON.stringify(payload) : payload;
      ws.send(JSON.stringify({ stream: name, event, payload: text }));
    };
    subscribe(channel, callback);
    open.set(channel, () => unsubscribe(channel, callback));
  };
  const stop = (params) => {
    const channel = channelOf(params.stream, session, params);
    open.get(channel)?.();
    open.delete(channel);
  };
  // What cannot be done is told to a client that stays.
  const attempt = (step, params) => {
    try {
      step(params);
    } catch (err) {
      const { status, message } = refusal(err);
      ws.send(JSON.stringify({ error: message, status }));
    }
  };

  ws.on('message', (data) => {
    const { type, ...params } = JSON.parse(data);
    if (type === 'subscribe') attempt(start, params);
    if (type === 'unsubscribe') attempt(stop, params);
  });
  ws.on('close', () => {
    counters.connected -= 1;
    open.forEach((close) => close());
  });

  if (first.stream) attempt(start, first);
}

setInterval(() => {
  sockets.clients.forEach((ws) => {
    if (!ws.alive) return ws.terminate();
    ws.alive = false;
    return ws.ping();
  });
}, 30000).unref();

if (process.env.SOCKET) {
  server.listen(process.env.SOCKET, () => fs.chmodSync(process.env.SOCKET, 0o666));
} else {
  server.listen(Number(process.env.PORT || 4000), process.env.BIND || '127.0.0.1', () => log('info', `Streaming API now listening on ${server.address().address}:${server.address().port}`));
}

// At once: clients connect anew by themselves.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
