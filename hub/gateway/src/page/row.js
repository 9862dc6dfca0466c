// An event as a row of a list.

import * as player from './player.js';
import * as words from './words.js';
import { send } from './api.js';
import { el, problem } from './dom.js';

export function row(event) {
  const cat = words.catOf(event);
  const at = words.moment(event.started_at);
  return el('li', { class: 'event', 'data-id': event.id },
    event.clip
      ? el('img', {
        class: 'thumb', loading: 'lazy', alt: '', width: 120, height: 60,
        src: `${relative(event.clip.spectrogram_url)}?axes=false&width=240&height=120`,
      })
      : el('span', { class: 'thumb none' }, 'No clip'),
    el('div', { class: 'what' },
      el('a', { href: `#/events/${event.id}` },
        el('span', { class: 'cat' }, cat), ' ', tag(event)),
      el('p', { class: 'faint' },
        el('time', { datetime: event.started_at }, at), ` · ${words.length(event.duration_s)}`,
        event.also_heard_by.length > 0
          && ` · heard by ${words.nodes([event.node_id ?? event.node, ...event.also_heard_by])}`,
        isAside(event) && ' · not announced')),
    el('span', { class: 'score', title: 'Cat score: how sure the hub is that this was a cat' },
      el('span', { class: 'hidden' }, 'cat score '), words.share(event.score)),
    event.clip ? playButton(event, `${cat}, ${at}`) : el('span', { class: 'play' }));
}

// Whether nobody was notified of an event because it sounds like ones labelled "Not a cat", or scored too low.
export const isAside = (event) => wasAside(event) && !event.label;
export const wasAside = (event) => event.like_false_alarms?.length > 0 || event.below_min_score != null;

// What an event counts as, in the colour of that context. A label of the owner has a check mark.
export function tag(event) {
  return el('span', { class: `tag ${event.counts_as}` },
    words.saidOf(event),
    event.label && el('span', { class: 'by-owner', title: 'Labelled by you' }, '✓', el('span', { class: 'hidden' }, ' labelled by you')));
}

function playButton(event, name) {
  const button = el('button', {
    type: 'button', class: 'play', 'data-play': `Play ${name}`, 'data-stop': `Stop ${name}`, 'aria-label': `Play ${name}`,
    onclick: () => player.toggle(button, relative(event.clip.url)),
  });
  return button;
}

// A proxy may serve the hub below a path, but the hub's URLs begin at its root: makes them relative to the page.
export function relative(url) {
  return url.replace(/^\//, '');
}

// Says which events changed, next to a button that changes them back by a POST to each of these paths. The button stays
// for paths that failed and may work later. `done` is called after each try.
export function offerUndo(place, changed, paths, done) {
  let back = 0;
  const button = el('button', { type: 'button', onclick: undo }, 'Undo');
  async function undo() {
    button.disabled = true;
    const left = [];
    let failed = null;
    for (const path of paths) {
      try {
        back += (await (await send('POST', relative(path))).json()).changed;
      } catch (error) {
        // An error that the button may mend is the one to show.
        if (error.code === 'not_found') failed ??= error;
        else {
          failed = error;
          left.push(path);
        }
      }
    }
    paths = left;
    button.disabled = false;
    // Meanwhile, the place may be about other events.
    if (button.isConnected) place.replaceChildren(back || !failed ? `${words.count(back, 'event')} changed back. ` : '', failed ? problem(failed) : '', left.length ? button : '');
    done?.();
  }
  place.replaceChildren(`${changed} `, button);
}

// What each row shows. A row that has not changed is left alone, so that it keeps the focus and goes on playing.
const shown = new WeakMap();

// Adds an event to a list, the latest first, or redraws its row if the list has it already.
export function put(list, event) {
  const old = list.querySelector(`[data-id="${Number(event.id)}"]`);
  const same = JSON.stringify(event);
  if (old && shown.get(old) === same) return;
  const fresh = row(event);
  fresh.dataset.at = event.started_at;
  shown.set(fresh, same);
  if (old) {
    // The new row has a new button, which could not stop this clip.
    if (old.querySelector('.playing')) player.stop();
    old.replaceWith(fresh);
    return;
  }
  const moment = Date.parse(event.started_at);
  const later = [...list.children].find((other) => Date.parse(other.dataset.at) < moment);
  list.insertBefore(fresh, later ?? null);
}

// Makes a list show these events and no others.
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
