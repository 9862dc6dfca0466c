// Notifications that could not be delivered: a line that opens into a list, and nothing when there are none.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, sentence, setText } from './dom.js';

// How often the page looks for them.
const LOOK_MS = 30_000;

// Most notifications in the list. A link leads to the others.
const MOST = 10;

// "about Tom": what a notification is about.
function about({ kind, animal, event_id: event }) {
  if (event) return ['about ', el('a', { href: `#/events/${event}` }, animal ?? 'a cat')];
  if (kind === 'node') return animal ? `about ${animal}’s node` : 'about a node';
  if (kind === 'digest') return 'a digest';
  return `about a call to ${animal ?? 'a cat'}`;
}

export function undelivered() {
  const many = el('span', { class: 'count' });
  const summary = el('summary', {}, 'Undelivered notifications ', many);
  const list = el('ul');
  const more = el('p', { class: 'faint', hidden: true }, 'Older ones are not shown here. ',
    el('a', { href: 'api/v1/notices?status=dead' }, 'Show all as JSON'));
  const element = el('section', { class: 'card undelivered', 'aria-label': 'Undelivered notifications', hidden: true },
    el('details', {}, summary, list, more));
  let shown = '';
  let timer = 0;
  let closed = false;

  async function look() {
    clearTimeout(timer);
    try {
      const answer = await api.get('api/v1/notices', { status: 'dead', limit: MOST });
      if (closed) return;
      draw(answer);
    } catch {
      // If the hub fails, the lists next to this one show the error.
    }
    if (!closed) timer = setTimeout(look, LOOK_MS);
  }

  function draw({ notices, next_cursor: next }) {
    // An unchanged list keeps the focus and the errors in it.
    const now = JSON.stringify([notices, next]);
    if (now === shown) return;
    shown = now;
    const focused = list.contains(document.activeElement);
    element.hidden = notices.length === 0;
    more.hidden = next === null;
    setText(many, next === null ? `(${words.number(notices.length)})` : `(${MOST}+)`);
    list.replaceChildren(...notices.map(item));
    if (focused) summary.focus();
  }

  function item(notice) {
    const to = notice.channel_kind === notice.channel ? notice.channel : `${notice.channel}, ${notice.channel_kind}`;
    return el('li', {},
      el('div', { class: 'what' },
        `To ${notice.owner} (${to}), `, about(notice),
        el('p', { class: 'faint' }, words.moment(notice.created_at),
          notice.tries > 0 && ` · ${words.count(notice.tries, 'failed attempt')}`),
        notice.error && el('p', { class: 'faint' }, sentence(notice.error))),
      el('button', { type: 'button', class: 'for-owner', onclick: (click) => retry(notice, click.target) }, 'Retry'));
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
