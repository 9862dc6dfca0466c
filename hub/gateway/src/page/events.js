// All events, with filters. The filter is the address: a view can be kept and shared.

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
  };
  const list = el('ol', { class: 'events wide' });
  const trouble = el('div');
  const status = el('p', { class: 'faint', role: 'status' }, 'Loading');
  const more = el('button', { type: 'button', hidden: true, onclick: () => read(cursor) }, 'Earlier events');
  let cursor = null;
  let closed = false;

  main.append(el('h1', {}, 'Events'), form(filter), status, trouble, list, more, exports(filter));
  read(null);

  async function read(after) {
    more.disabled = true;
    try {
      const page = await get('api/v1/events', { ...filter, limit: PAGE, cursor: after });
      if (closed) return;
      // Looking again at the first page says nothing about the later ones.
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
    if (shown === 0) setText(status, isEmpty(filter) ? 'No events yet. They appear here as soon as a cat is heard.' : 'No event is like that.');
    else setText(status, `${words.count(shown, 'event')}${cursor === null ? '' : ', and earlier ones'}`);
  }

  return {
    open: () => read(null),
    news(kind, data) {
      // Whether an event fits the filter is the hub's to say, and a label teaches it about others.
      if (kind === 'event' || kind === 'labelled') read(null);
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
  get('api/v1/nodes').then(({ nodes }) => {
    cats.append(...[...new Set(nodes.map((node) => node.cat).filter(Boolean))].map((cat) => el('option', { value: cat })));
  }).catch(() => {});
  const cat = el('input', { name: 'cat', list: 'cats', value: filter.cat, autocomplete: 'off', placeholder: 'any' });
  const context = el('select', { name: 'context' }, el('option', { value: '' }, 'any'),
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

  return el('form', { class: 'filters card', 'aria-label': 'Filter', onsubmit: apply },
    field('Cat', cat), cats, field('Sounds like', context), field('From', from), field('To', to),
    field('Score from, %', score),
    el('div', { class: 'actions' }, el('button', { type: 'submit', class: 'main' }, 'Filter'),
      !isEmpty(filter) && el('a', { class: 'button', href: '#/events' }, 'Show all')));
}

// A moment of the address as the input writes it, in the viewer's time zone; and back.
function local(moment) {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return '';
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function instant(value) {
  return value === '' ? '' : new Date(value).toISOString();
}

function exports(filter) {
  const given = Object.entries(filter).filter(([, value]) => value !== '');
  const query = new URLSearchParams(given).toString();
  return el('p', { class: 'faint' }, 'Download as CSV: ',
    el('a', { href: `api/v1/events.csv${query && `?${query}`}`, download: 'events.csv' }, 'these events'), ' or ',
    el('a', { href: 'api/v1/labels.csv', download: 'labels.csv' }, 'everything you said about events'), '.');
}
