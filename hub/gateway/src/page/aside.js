// Sounds of the last week that were not announced, because they are like ones that the owner labelled "Not a cat", or
// scored below `min_score` of their node: a line that opens.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, say, setText } from './dom.js';
import { replace } from './row.js';

const WEEK_MS = 7 * 86_400_000;

// Most events in the list. A link leads to all of them.
const MOST = 100;

export function aside() {
  const text = el('span');
  const list = el('ol', { class: 'events' });
  const more = el('a', { class: 'more', hidden: true, href: '#/events?announced=false' }, 'All sounds that were not announced');
  const inside = el('div', { hidden: true }, list, more);
  const show = el('button', { type: 'button', 'aria-expanded': 'false', onclick: toggle }, 'Show');
  const again = el('button', { type: 'button', class: 'for-owner', onclick: ask }, 'Announce again');
  const failed = el('div');
  const element = el('section', { class: 'card', 'aria-label': 'Not announced', hidden: true },
    el('p', {}, text), el('div', { class: 'actions' }, show, again), failed, inside);
  let events = [];
  let closed = false;

  function toggle() {
    inside.hidden = !inside.hidden;
    show.setAttribute('aria-expanded', String(!inside.hidden));
    setText(show, inside.hidden ? 'Show' : 'Hide');
  }

  async function look() {
    try {
      const from = new Date(Date.now() - WEEK_MS).toISOString();
      const page = await api.get('api/v1/events', { announced: false, from, limit: MOST });
      if (closed) return;
      ({ events } = page);
      element.hidden = events.length === 0;
      more.hidden = page.next_cursor === null;
      const many = more.hidden ? words.number(events.length) : `More than ${words.number(MOST)}`;
      again.hidden = labels().length === 0;
      const [are, low] = events.length === 1 && more.hidden ? ['was', 'sound'] : ['were', 'sounds'];
      const isLike = events.every((event) => event.like_false_alarms.length > 0);
      setText(text, `${many} ${low}${isLike ? ' like ones you marked “Not a cat”' : ''} ${are} not announced this week.`);
      replace(list, events);
    } catch {
      // The list of today's events shows the error.
    }
  }

  // The labels behind the events of the list.
  const labels = () => [...new Set(events.flatMap((event) => event.like_false_alarms))];

  function ask() {
    const wrong = el('div');
    const go = el('button', { type: 'button', class: 'danger', onclick: remove }, 'Remove the labels');
    const dialog = el('dialog', { 'aria-labelledby': 'again', onclose: () => dialog.remove() },
      el('h2', { id: 'again' }, 'Announce sounds like these again?'),
      el('p', {}, `This removes your label “Not a cat” from ${words.count(labels().length, 'event')}. `,
        'Later sounds like them are announced. Events that are stored already stay as they are.'),
      wrong,
      el('div', { class: 'actions' }, go,
        el('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Cancel')));
    async function remove() {
      go.disabled = true;
      try {
        for (const id of labels()) await forget(id);
        dialog.close();
        say('Labels removed');
        failed.replaceChildren(el('p', { class: 'faint' }, 'Later sounds like these are announced again.'));
      } catch (error) {
        wrong.replaceChildren(problem(error));
        go.disabled = false;
      }
    }
    element.append(dialog);
    dialog.showModal();
  }

  look();
  return {
    element,
    look,
    close() {
      closed = true;
    },
  };
}

// Takes the label "Not a cat" from an event, if it still has it.
async function forget(id) {
  try {
    const event = await api.get(`api/v1/events/${id}`);
    if (event.label === 'not_a_cat') await api.label(id, null);
  } catch (error) {
    if (error.code !== 'not_found') throw error;
  }
}
