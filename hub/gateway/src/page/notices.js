// What could not be told to an owner, while there is such.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem } from './dom.js';

// How often it is looked for.
const LOOK_MS = 30_000;

// Shown at most; the rest is in the API.
const MOST = 10;

function about({ kind, animal, event_id: event }) {
  if (event) return el('a', { href: `#/events/${event}` }, animal ?? 'a cat');
  if (kind === 'node') return animal ? `${animal}’s node` : 'a node';
  return animal ?? 'a digest';
}

export function undelivered() {
  const element = el('div');
  let timer = 0;
  let closed = false;

  async function look() {
    clearTimeout(timer);
    try {
      const { notices, next_cursor: more } = await api.get('api/v1/notices', { status: 'dead', limit: MOST });
      if (closed) return;
      element.replaceChildren(notices.length > 0 ? list(notices, more !== null) : '');
    } catch {
      // The lists beside it say what is wrong with the hub.
    }
    if (!closed) timer = setTimeout(look, LOOK_MS);
  }

  function list(notices, more) {
    return el('section', { class: 'card undelivered', 'aria-labelledby': 'undelivered' },
      el('h2', { id: 'undelivered' }, 'Could not be told'),
      el('ul', {}, notices.map((notice) => el('li', {},
        el('div', { class: 'what' },
          `${notice.owner} by ${notice.channel}: `,
          about(notice),
          el('p', { class: 'faint' }, `${words.moment(notice.created_at)}, ${words.count(notice.tries, 'try', 'tries')}. ${notice.error ?? ''}`)),
        el('button', { type: 'button', onclick: (click) => retry(notice, click.target) }, 'Try again')))),
      more && el('p', { class: 'faint' }, 'And earlier ones: ', el('a', { href: 'api/v1/notices?status=dead' }, 'all of them'), '.'));
  }

  async function retry(notice, button) {
    button.disabled = true;
    try {
      await api.retry(notice.id);
      look();
    } catch (error) {
      button.after(problem(error));
    }
  }

  look();
  return {
    element,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
