// All events, with filters. The filters are part of the address, so that a view can be bookmarked and shared.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem, setText } from './dom.js';
import { drop, put, replace } from './row.js';

const PAGE = 50;

export function show(main, { query }) {
  const filter = {
    cat: query.get('cat') ?? '',
    context: query.get('context') ?? '',
    from: query.get('from') ?? '',
    to: query.get('to') ?? '',
    min_score: query.get('min_score') ?? '',
    announced: query.get('announced') ?? '',
  };
  const list = el('ol', { class: 'events wide' });
  const trouble = el('div');
  const status = el('p', { class: 'faint', role: 'status' }, 'Loading…');
  const more = el('button', { type: 'button', hidden: true, onclick: () => read(cursor) }, 'Show earlier events');
  let cursor = null;
  let closed = false;

  main.append(el('h1', {}, 'Events'), form(filter), status, trouble, list, more, exports(filter));
  read(null);

  async function read(after) {
    more.disabled = true;
    try {
      const page = await get('api/v1/events', { ...filter, limit: PAGE, cursor: after });
      if (closed) return;
      // When more than one page is shown, a new first page does not change where the next one begins.
      const again = after === null && list.children.length > PAGE;
      if (after === null && !again) replace(list, page.events);
      else for (const event of page.events) put(list, event);
      if (!again) cursor = page.next_cursor;
      more.hidden = cursor === null;
      trouble.replaceChildren();
      tell();
    } catch (error) {
      if (closed) return;
      setText(status, '');
      trouble.replaceChildren(problem(error));
    }
    more.disabled = false;
  }

  function tell() {
    const shown = list.children.length;
    if (shown > 0) setText(status, cursor === null ? words.count(shown, 'event') : `Latest ${words.count(shown, 'event')}`);
    else if (isEmpty(filter)) setText(status, 'No events yet. They appear here as soon as a cat is heard.');
    else setText(status, 'No events match these filters.');
  }

  return {
    open: () => read(null),
    news(kind, data) {
      // Only the hub knows whether an event matches the filters, before and after a label.
      if (kind === 'linked' && data.same_sound_as !== null) {
        drop(list, data.id);
        tell();
      } else if (['event', 'linked', 'labelled', 'reevaluated'].includes(kind)) read(null);
      else if (kind === 'deleted') {
        drop(list, data.id);
        tell();
      }
    },
    close() {
      closed = true;
    },
  };
}

function isEmpty(filter) {
  return Object.values(filter).every((value) => value === '');
}

function form(filter) {
  const cats = el('datalist', { id: 'cats' });
  Promise.all([get('api/v1/nodes'), get('api/v1/cats')]).then(([{ nodes }, { cats: named }]) => {
    words.learnNodes(nodes);
    const all = [...nodes.map((node) => node.cat), ...named.map((cat) => cat.name)].filter(Boolean);
    cats.append(...[...new Set(all)].map((cat) => el('option', { value: cat })));
  }).catch(() => {});
  const cat = el('input', { name: 'cat', list: 'cats', value: filter.cat, autocomplete: 'off', placeholder: 'Any' });
  const context = el('select', { name: 'context' }, el('option', { value: '' }, 'Any'),
    Object.entries(words.contexts).map(([word, text]) => el('option', { value: word, selected: word === filter.context }, text)));
  const from = el('input', { name: 'from', type: 'datetime-local', value: local(filter.from) });
  const to = el('input', { name: 'to', type: 'datetime-local', value: local(filter.to) });
  const score = el('input', { name: 'min_score', type: 'number', min: 0, max: 100, step: 1, placeholder: '0', inputmode: 'numeric',
    value: filter.min_score === '' ? '' : Math.round(filter.min_score * 100) });
  const field = (label, control) => el('label', { class: control.type === 'datetime-local' && 'date' }, el('span', {}, label), control);

  function apply(submit) {
    submit.preventDefault();
    const wanted = new URLSearchParams();
    const set = (key, value) => value !== '' && wanted.set(key, value);
    set('cat', cat.value);
    set('context', context.value);
    set('from', instant(from.value));
    set('to', instant(to.value));
    set('min_score', score.value === '' ? '' : String(Number(score.value) / 100));
    const query = wanted.toString();
    location.hash = query ? `#/events?${query}` : '#/events';
  }

  return el('form', { class: 'filters card', 'aria-label': 'Filters', onsubmit: apply },
    field('Cat', cat), cats, field('Context', context), field('From', from), field('To', to),
    field('Minimum cat score (%)', score),
    el('div', { class: 'actions' }, el('button', { type: 'submit', class: 'main' }, 'Apply'),
      !isEmpty(filter) && el('a', { class: 'button', href: '#/events' }, 'Clear')));
}

// Converts a moment of the address to the value of the input, which is in the viewer's time zone.
function local(moment) {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return '';
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

// The reverse.
function instant(value) {
  return value === '' ? '' : new Date(value).toISOString();
}

// The menu of downloads. All but the labels have the filters of the list.
function exports(filter) {
  const given = Object.entries(filter).filter(([, value]) => value !== '');
  const link = (path, more, file, text) => {
    const query = new URLSearchParams([...given, ...more]).toString();
    return el('li', {}, el('a', { href: `${path}${query && `?${query}`}`, download: file }, text));
  };
  return el('details', { class: 'downloads' }, el('summary', {}, 'Download'),
    el('ul', {},
      link('api/v1/events.csv', [], 'events.csv', 'These events as CSV'),
      link('api/v1/events', [['format', 'jsonl']], 'events.jsonl', 'These events as JSON Lines'),
      link('api/v1/events.zip', [], 'events.zip', 'Recordings of these events as ZIP, with tables for Raven (at most 10,000 events)'),
      el('li', {}, el('a', { href: 'api/v1/labels.csv', download: 'labels.csv' }, 'All your labels as CSV'))));
}
