import { article } from './status.js';

// New posts appear as they are made.
const state = JSON.parse(document.getElementById('initial-state').textContent);
const list = document.getElementById('mastodon');

if (list) {
  const socket = new WebSocket(`${state.meta.streaming_api_base_url}/api/v1/streaming?stream=public`);
  socket.addEventListener('message', ({ data }) => {
    const { event, payload } = JSON.parse(data);
    if (event === 'update') list.prepend(article(JSON.parse(payload)));
    if (event === 'delete') list.querySelector(`[data-id="${payload}"]`)?.remove();
  });
}
