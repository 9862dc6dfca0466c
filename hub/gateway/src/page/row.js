// An event in a list.

import * as player from './player.js';
import * as words from './words.js';
import { el } from './dom.js';

export function row(event) {
  const cat = words.catOf(event);
  const at = words.moment(event.started_at);
  return el('li', { class: 'event', 'data-id': event.id },
    event.clip
      ? el('img', {
        class: 'thumb', loading: 'lazy', alt: '', width: 120, height: 60,
        src: `${relative(event.clip.spectrogram_url)}?axes=false&width=240&height=120`,
      })
      : el('span', { class: 'thumb none' }, 'no clip'),
    el('div', { class: 'what' },
      el('a', { href: `#/events/${event.id}` },
        el('span', { class: 'cat' }, cat), ' ', tag(event)),
      el('p', { class: 'faint' },
        el('time', { datetime: event.started_at }, at), ` · ${words.length(event.duration_s)}`)),
    el('span', { class: 'score', title: 'How sure it is a cat' },
      el('span', { class: 'hidden' }, 'score '), words.share(event.score)),
    event.clip ? playButton(event, `${cat}, ${at}`) : el('span', { class: 'play' }));
}

// What an event counts as, with the colour of it. The owner's word has a mark.
export function tag(event) {
  return el('span', { class: `tag ${event.counts_as}` },
    words.contexts[event.counts_as] ?? event.counts_as,
    event.label && el('span', { class: 'by-owner', title: 'You said so' }, '✓', el('span', { class: 'hidden' }, ' by you')));
}

function playButton(event, name) {
  const button = el('button', {
    type: 'button', class: 'play', 'data-play': `Play ${name}`, 'data-stop': `Stop ${name}`, 'aria-label': `Play ${name}`,
    onclick: () => player.toggle(button, relative(event.clip.url)),
  });
  return button;
}

// The hub may be served below a path by a proxy; its own addresses begin at its root.
export function relative(url) {
  return url.replace(/^\//, '');
}

// What each row shows: one that has not changed is left alone, with the focus and the sound that it may have.
const shown = new WeakMap();

// Keeps a list of rows in order of time, the latest first; an event that is there already is drawn anew.
export function put(list, event) {
  const old = list.querySelector(`[data-id="${Number(event.id)}"]`);
  const same = JSON.stringify(event);
  if (old && shown.get(old) === same) return;
  const fresh = row(event);
  fresh.dataset.at = event.started_at;
  shown.set(fresh, same);
  if (old) {
    // The button that plays stays the one that stops.
    if (old.querySelector('.playing')) player.stop();
    old.replaceWith(fresh);
    return;
  }
  const moment = Date.parse(event.started_at);
  const later = [...list.children].find((other) => Date.parse(other.dataset.at) < moment);
  list.insertBefore(fresh, later ?? null);
}

// Puts these events in the place of all that a list has.
export function replace(list, events) {
  const wanted = new Set(events.map((event) => String(event.id)));
  for (const old of [...list.children]) {
    if (!wanted.has(old.dataset.id)) drop(list, old.dataset.id);
  }
  for (const event of events) put(list, event);
}

export function drop(list, id) {
  const old = list.querySelector(`[data-id="${Number(id)}"]`);
  if (old?.querySelector('.playing')) player.stop();
  old?.remove();
}
