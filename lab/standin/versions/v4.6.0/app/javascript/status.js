export function article(status) {
  const element = document.createElement('article');
  element.dataset.id = status.id;
  element.lang = status.language ?? 'en';
  const author = document.createElement('h2');
  author.textContent = `@${status.account.acct}`;
  const body = document.createElement('div');
  body.innerHTML = status.content;
  element.append(author, body);
  for (const { url, description } of status.media_attachments) {
    const image = document.createElement('img');
    image.src = url;
    image.alt = description ?? '';
    element.append(image);
  }
  return element;
}
