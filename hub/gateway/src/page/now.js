// The nodes as they are now, and the events of today.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem, say, setText } from './dom.js';
import { card } from './node.js';
import { undelivered } from './notices.js';
import { drop, isAside, put, replace, wasAside } from './row.js';
import { waiting } from './waiting.js';

// How often the state of the nodes is read.
const LOOK_MS = 5_000;

// A pause of deletion by age is shown after this long.
const PAUSE_SHOWN_AFTER_MS = 600_000;

// Most events in the list of today. A link leads to the others.
const MOST_EVENTS = 100;

export function show(main) {
  const cards = new Map();
  const nodes = el('div', { class: 'nodes' });
  const trouble = el('div');
  const help = el('div');
  // Who hears the microphones through the hub.
  const hears = el('p', { class: 'faint' });
  const list = el('ol', { class: 'events' });
  const total = el('span', { class: 'count' });
  const nothing = el('p', { class: 'empty', hidden: true },
    'No events yet today. A meow appears here a few seconds after it is heard.');
  const more = el('a', { class: 'more', hidden: true, href: '#/events' }, 'All of today’s events');
  const listTrouble = el('div');
  const notifications = undelivered();
  const backup = later(import('./backup.js').then(({ backups }) => backups()));
  const notAnnounced = later(import('./aside.js').then(({ aside }) => aside()));
  const lobby = waiting(() => look());

  main.append(el('h1', { class: 'hidden' }, 'Now'),
    el('div', { class: 'now' },
      el('section', { 'aria-label': 'Microphones' }, trouble, lobby.element, help, nodes, hears, notifications.element, backup.element),
      el('section', { 'aria-labelledby': 'today' },
        el('h2', { id: 'today' }, 'Today ', total), listTrouble, list, nothing, more, notAnnounced.element)));

  let closed = false;
  let looking = 0;
  let looks = false;
  // Whether the hub has ever stored an event. `null`: not known yet.
  let established = null;

  // The card of a node, at this place in the list.
  function cardOf(url, place) {
    if (!cards.has(url)) cards.set(url, card(url));
    const { element } = cards.get(url);
    if (nodes.children[place] !== element) nodes.insertBefore(element, nodes.children[place] ?? null);
    return cards.get(url);
  }

  async function look() {
    clearTimeout(looking);
    looks = true;
    const [said, heard] = await Promise.allSettled([get('api/v1/nodes'), get('api/v1/listening')]);
    looks = false;
    if (closed) return;
    clearTimeout(looking);
    looking = setTimeout(look, LOOK_MS);
    if (said.status === 'rejected') {
      cards.forEach((one) => one.lost());
      return trouble.replaceChildren(problem(said.reason));
    }
    lobby.draw(said.value.waiting);
    const listening = heard.value?.nodes ?? [];
    const known = said.value.nodes;
    words.learnNodes(known);
    // In the order of the hub, whichever node was heard first.
    for (const [place, node] of known.entries()) {
      cardOf(node.url, place).look(node, listening.find((one) => one.node === node.url), {
        alone: known.length === 1,
        liveAudio: said.value.live_audio,
      });
    }
    for (const [url, gone] of cards) {
      if (known.some((node) => node.url === url)) continue;
      gone.close();
      gone.element.remove();
      cards.delete(url);
    }
    const ears = (heard.value?.live_listeners ?? []).map((one) => one.who);
    setText(hears, ears.length ? `Listening live now: ${ears.join(', ')}` : '');
    const notStored = heard.value?.not_stored;
    trouble.replaceChildren(heard.status === 'rejected' ? problem(heard.reason)
      : notStored ? problem(`Events are not being stored: ${notStored}`)
        : pausedLine(heard.value?.age_deletion_paused_since));
    if (known.some((node) => node.reachable)) help.replaceChildren();
    else if (!help.firstChild) await advise(known.length);
  }

  // Nobody who has had a node for months needs to be told how to start one.
  async function advise(count) {
    try {
      established ??= (await get('api/v1/events', { limit: 1 })).events.length > 0;
    } catch {
      // The list of today's events shows the error.
      return;
    }
    if (!closed && !help.firstChild) help.append(established ? whatToCheck(count) : howToBegin());
  }

  // Reads all of today's events: at the start, after every connection, and after midnight.
  async function read() {
    try {
      const page = await get('api/v1/events', { from: words.midnight(), limit: MOST_EVENTS, announced: true });
      if (closed) return;
      replace(list, page.events);
      more.hidden = page.next_cursor === null;
      more.href = `#/events?from=${encodeURIComponent(words.midnight())}`;
      listTrouble.replaceChildren();
      recount();
    } catch (error) {
      if (!closed) listTrouble.replaceChildren(problem(error));
    }
  }

  async function recount() {
    nothing.hidden = list.children.length > 0;
    try {
      const { total: many } = await get('api/v1/counts', { by: 'day', tz: words.zone, from: words.midnight() });
      setText(total, words.number(many));
    } catch {
      setText(total, '');
    }
  }

  let atMidnight;
  const waitForMidnight = () => {
    const now = new Date();
    const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    atMidnight = setTimeout(() => {
      read();
      waitForMidnight();
    }, midnight - now + 1_000);
  };
  waitForMidnight();
  const ticking = setInterval(() => cards.forEach((one) => one.tick()), 1_000);
  look();
  read();

  return {
    open() {
      look();
      read();
      notAnnounced.look();
    },
    lost() {
      cards.forEach((one) => one.lost());
    },
    news(kind, data) {
      if (isAside(data)) notAnnounced.look();
      else if (kind === 'event') {
        cards.get(data.node)?.heard(data);
        if (!words.isToday(data.started_at)) return;
        put(list, data);
        while (list.children.length > MOST_EVENTS) list.lastChild.remove();
        say(`${words.catOf(data)}: ${words.contexts[data.counts_as]}, ${words.clock(data.started_at)}`);
        recount();
      } else if (kind === 'linked') {
        // Another node heard the same sound: one row shows it.
        if (data.same_sound_as !== null) drop(list, data.id);
        else if (words.isToday(data.started_at)) put(list, data);
        recount();
      } else if (kind === 'labelled') {
        if (list.querySelector(`[data-id="${Number(data.id)}"]`)) put(list, data);
        else if (wasAside(data)) {
          read();
          notAnnounced.look();
        }
      } else if (kind === 'redated' || kind === 'reevaluated') {
        // Many events have moved.
        read();
      } else if (kind === 'deleted') {
        drop(list, data.id);
        recount();
        notAnnounced.look();
      } else if (cards.has(data.node)) {
        cards.get(data.node)[kind](data);
      } else if (!looks) {
        // A new node.
        look();
      }
    },
    close() {
      closed = true;
      clearTimeout(looking);
      clearTimeout(atMidnight);
      clearInterval(ticking);
      notifications.close();
      backup.close();
      notAnnounced.close();
      cards.forEach((one) => one.close());
    },
  };
}

// A part that takes its place once it is loaded.
function later(loading) {
  const element = el('div');
  loading.then((part) => element.replaceWith(part.element), () => {});
  const tell = (what) => () => loading.then((part) => part[what](), () => {});
  return { element, look: tell('look'), close: tell('close') };
}

function whatToCheck(count) {
  return el('div', { class: 'help' },
    el('h2', {}, count === 1 ? 'Your cat-node is not reachable' : 'None of your cat-nodes is reachable'),
    el('p', {}, 'Check that its device has power and is connected to the network. On the device, this says whether it runs:'),
    el('pre', {}, el('code', {}, 'systemctl status cat-node')),
    el('p', { class: 'faint' }, 'This page checks again every few seconds.'));
}

// Old events stay while the hub's clock is in doubt. The minutes before NTP answers are not worth a line.
function pausedLine(since) {
  if (!since || Date.now() - new Date(since) < PAUSE_SHOWN_AFTER_MS) return '';
  return el('p', { class: 'faint' },
    `The hub’s clock has not been confirmed since ${words.moment(since)}, so old events and clips are kept for now. `,
    'If the time is right, run ', el('code', {}, 'sudo hub clock accept'), ' on the hub’s machine.');
}

function howToBegin() {
  const command = (text) => el('pre', {}, el('code', {}, text));
  return el('div', { class: 'help' },
    el('h2', {}, 'No cat-node is reachable'),
    el('p', {}, 'A cat-node listens to your cat with a microphone. To start one on this machine:'),
    command('cat-node serve --cat Tom'),
    el('p', {}, 'To try it without a microphone, use a synthetic cat:'),
    command('cat-node serve --cat Tom --source synthetic'),
    el('p', {}, 'To start one on another device, install the package cat-node there, and run:'),
    command('sudo systemctl enable --now cat-node'),
    command('sudo cat-node pair'),
    el('p', {}, 'The hub finds nodes on the local network by itself. Such a node appears on this page, and you pair it here ',
      'with the code that the second command shows. If it does not appear, name its address on the hub’s machine:'),
    command('sudo hub pair CODE ADDRESS'),
    el('p', { class: 'faint' }, `This page checks again every few seconds. The hub runs at ${location.host}.`));
}
