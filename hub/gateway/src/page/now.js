// What the cats say now, and what they said today.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem, say, setText } from './dom.js';
import { card } from './node.js';
import { undelivered } from './notices.js';
import { drop, put, replace } from './row.js';

// How often the nodes are asked how they are.
const LOOK_MS = 5_000;

// Events in today's list at most; the rest is a link away.
const MOST_EVENTS = 100;

export function show(main) {
  const cards = new Map();
  const nodes = el('div', { class: 'nodes' });
  const trouble = el('div');
  const help = el('div');
  const list = el('ol', { class: 'events' });
  const total = el('span', { class: 'count' });
  const nothing = el('p', { class: 'empty', hidden: true },
    'No cat yet today. A meow appears here a few seconds after it is heard.');
  const more = el('a', { class: 'more', hidden: true, href: '#/events' }, 'All events of today');
  const listTrouble = el('div');
  const untold = undelivered();

  main.append(el('h1', { class: 'hidden' }, 'Now'),
    el('div', { class: 'now' },
      el('section', { 'aria-label': 'Microphones' }, trouble, help, nodes, untold.element),
      el('section', { 'aria-labelledby': 'today' },
        el('h2', { id: 'today' }, 'Today ', total), listTrouble, list, nothing, more)));

  let closed = false;
  let looking = 0;

  // The card of a node; one that is new appears, whoever found it.
  function cardOf(url) {
    if (!cards.has(url)) {
      const made = card(url);
      cards.set(url, made);
      nodes.append(made.element);
    }
    return cards.get(url);
  }

  async function look() {
    clearTimeout(looking);
    const [said, heard] = await Promise.allSettled([get('api/v1/nodes'), get('api/v1/listening')]);
    if (closed) return;
    looking = setTimeout(look, LOOK_MS);
    if (said.status === 'rejected') return trouble.replaceChildren(problem(said.reason));
    const listening = heard.value?.nodes ?? [];
    const known = said.value.nodes;
    for (const node of known) {
      cardOf(node.url).look(node, listening.find((one) => one.node === node.url), {
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
    trouble.replaceChildren(heard.status === 'rejected' ? problem(heard.reason) : '');
    const needsHelp = !known.some((node) => node.reachable);
    if (!needsHelp) help.replaceChildren();
    else if (!help.firstChild) help.append(howToBegin());
  }

  // Today from the beginning: at the start, after an interruption, after midnight.
  async function read() {
    try {
      const page = await get('api/v1/events', { from: words.midnight(), limit: MOST_EVENTS });
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
    },
    news(kind, data) {
      if (kind === 'event') {
        cardOf(data.node).heard(data);
        if (!words.isToday(data.started_at)) return;
        put(list, data);
        while (list.children.length > MOST_EVENTS) list.lastChild.remove();
        say(`${words.catOf(data)}: ${words.contexts[data.counts_as]}, ${words.clock(data.started_at)}`);
        recount();
      } else if (kind === 'labelled') {
        // It may have taught the hub about others of that cat.
        read();
      } else if (kind === 'deleted') {
        drop(list, data.id);
        recount();
      } else {
        if (!cards.has(data.node)) look();
        cardOf(data.node)[kind](data);
      }
    },
    close() {
      closed = true;
      clearTimeout(looking);
      clearTimeout(atMidnight);
      clearInterval(ticking);
      untold.close();
      cards.forEach((one) => one.close());
    },
  };
}

function howToBegin() {
  const port = location.port ? `:${location.port}` : '';
  return el('div', { class: 'help' },
    el('h2', {}, 'No microphone answers'),
    el('p', {}, 'A cat-node listens to a microphone. On this machine, start one with'),
    el('pre', {}, el('code', {}, 'cat-node serve --cat Tom')),
    el('p', {}, 'or, to try it without a microphone, let a made-up cat meow:'),
    el('pre', {}, el('code', {}, 'cat-node serve --cat Tom --source synthetic')),
    el('p', {}, 'A node on another device is started there with'),
    el('pre', {}, el('code', {}, 'cat-node serve --cat Tom --listen 0.0.0.0:50056 --insecure')),
    el('p', {}, 'and the hub finds it by itself on the local network. Elsewhere, tell the hub where it is:'),
    el('pre', {}, el('code', {}, 'hub serve --node Tom=http://ADDRESS:50056')),
    el('p', { class: 'faint' }, `This page looks again every few seconds. ${location.hostname}${port} is the hub itself.`));
}
