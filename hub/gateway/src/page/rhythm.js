// When the cats vocalise: a heat map of hours by day, and totals by context.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem, setText } from './dom.js';

const SPANS = [7, 14, 30];

// Shades of the heat map, besides the one for no events.
const SHADES = 5;

// Shortest time between two counts, however many events arrive.
const AGAIN_MS = 2_000;

export function show(main, { query }) {
  const days = SPANS.includes(Number(query.get('days'))) ? Number(query.get('days')) : SPANS[0];
  const cat = query.get('cat') ?? '';
  const trouble = el('div');
  const totals = el('dl', { class: 'totals' });
  const map = el('div', { class: 'heat' });
  let closed = false;
  let waiting = 0;

  const link = (span) => `#/rhythm?${new URLSearchParams({ days: span, ...(cat && { cat }) })}`;
  main.append(el('h1', {}, 'Rhythm'),
    el('p', { class: 'spans' }, el('span', {}, `Events by hour${cat ? ` for ${cat}` : ''} over the last`),
      SPANS.map((span) => [el('a', { class: 'button', href: link(span), 'aria-current': span === days && 'true' }, `${span} days`), ' '])),
    trouble, totals, map,
    el('p', { class: 'faint' }, 'Events you marked “Not a cat” are not counted. Select an hour to see its events.'));
  count();

  async function count() {
    waiting = 0;
    const today = new Date(words.midnight());
    const from = new Date(today.getFullYear(), today.getMonth(), today.getDate() - days + 1);
    const to = new Date(today.getFullYear(), today.getMonth(), today.getDate() + 1);
    try {
      const counts = await get('api/v1/counts', { by: 'hour', tz: words.zone, from: from.toISOString(), to: to.toISOString(), cat });
      if (closed) return;
      trouble.replaceChildren();
      drawTotals(totals, counts);
      const focused = map.contains(document.activeElement) && document.activeElement.getAttribute('href');
      map.replaceChildren(table(counts, cat));
      if (focused) map.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    } catch (error) {
      if (!closed) trouble.replaceChildren(problem(error));
    }
  }

  return {
    open: count,
    news(kind) {
      if (['event', 'linked', 'labelled', 'reevaluated', 'deleted'].includes(kind) && !waiting) waiting = setTimeout(count, AGAIN_MS);
    },
    close() {
      closed = true;
      clearTimeout(waiting);
    },
  };
}

function drawTotals(list, counts) {
  const sum = { waiting_for_food: 0, isolation: 0, brushing: 0, uncertain: 0 };
  for (const bucket of counts.counts) {
    for (const context of Object.keys(sum)) sum[context] += bucket.contexts[context];
  }
  const rows = [['Total', counts.total, 'all'], ...Object.entries(sum).map(([word, many]) => [words.contexts[word], many, word])];
  if (!list.firstChild) list.append(...rows.map(([name, , kind]) => el('div', { class: kind }, el('dt', {}, name), el('dd'))));
  rows.forEach(([, many], n) => setText(list.children[n].lastChild, words.number(many)));
}

// A row for each day, the latest first, and a column for each hour. When the clocks go back, the hour that occurs twice
// is one cell; when they go forward, the skipped hour has no cell.
function table(counts, cat) {
  const rows = new Map();
  for (const bucket of counts.counts) {
    const [date, time] = [bucket.start.slice(0, 10), Number(bucket.start.slice(11, 13))];
    if (!rows.has(date)) rows.set(date, new Map());
    const cell = rows.get(date).get(time) ?? { count: 0, start: bucket.start };
    cell.count += bucket.count;
    cell.end = bucket.end;
    rows.get(date).set(time, cell);
  }
  const most = Math.max(1, ...counts.counts.map((bucket) => bucket.count));
  const hours = Array.from({ length: 24 }, (_, hour) => hour);
  const pad = (hour) => String(hour).padStart(2, '0');
  return el('table', {},
    el('caption', { class: 'hidden' }, 'Events by day and hour'),
    el('thead', {}, el('tr', {}, el('td'),
      hours.map((hour) => el('th', { scope: 'col' },
        el('span', { class: hour % 3 === 0 ? '' : 'odd' }, pad(hour)))),
      el('th', { scope: 'col', class: 'sum' }, 'Total'))),
    el('tbody', {}, [...rows].reverse().map(([date, cells]) => {
      const [year, month, dayOfMonth] = date.split('-').map(Number);
      const name = words.day(new Date(year, month - 1, dayOfMonth));
      const sum = [...cells.values()].reduce((all, cell) => all + cell.count, 0);
      return el('tr', { 'data-date': date }, el('th', { scope: 'row' }, name),
        hours.map((hour) => square(cells.get(hour), hour, name, most, cat)),
        el('td', { class: 'sum' }, words.number(sum)));
    })));
}

function square(cell, hour, name, most, cat) {
  if (!cell) return el('td', { class: 'no-hour' });
  const shade = cell.count === 0 ? 0 : Math.ceil((cell.count / most) * SHADES);
  const attributes = { class: `hour shade-${shade}`, 'data-hour': hour, 'data-count': cell.count };
  if (cell.count === 0) return el('td', attributes, el('span', { class: 'hidden' }, '0'));
  const wanted = new URLSearchParams({ from: new Date(cell.start).toISOString(), to: new Date(cell.end).toISOString(), ...(cat && { cat }) });
  const text = `${words.count(cell.count, 'event')}, ${name}, ${words.hour(cell.start)} to ${words.hour(cell.end)}`;
  return el('td', attributes, el('a', { href: `#/events?${wanted}`, 'aria-label': text, title: text }, words.number(cell.count)));
}
