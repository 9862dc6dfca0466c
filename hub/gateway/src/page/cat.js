// Says which of several cats an event was.

import * as words from './words.js';
import { get, send } from './api.js';
import { el, problem, say } from './dom.js';

// Fills `box` for an event. `draw` is called with the event after a change. News that does not change the cat leaves
// alone what somebody is typing.
export function fill(box, event, draw) {
  const path = `api/v1/events/${event.id}/cat`;
  const old = box.querySelector('input');
  const held = old && old === document.activeElement;
  const shown = JSON.stringify([event.cat, event.node_cat, event.cat_named_at]);
  if (held && box.dataset.shown === shown) return;
  box.dataset.shown = shown;
  const failed = el('div');
  const names = el('datalist', { id: 'names' });
  const name = el('input', { list: 'names', required: true, autocomplete: 'off', placeholder: words.catOf(event) });
  name.value = old?.value ?? '';
  get('api/v1/cats', { node: event.node_id ?? event.node })
    .then(({ cats }) => names.append(...[...new Set([event.node_cat, ...cats.map((cat) => cat.name)])].filter(Boolean).map((value) => el('option', { value }))), () => {});

  async function change(method, body) {
    failed.replaceChildren();
    try {
      const changed = await (await send(method, path, body)).json();
      name.value = '';
      draw(changed);
      say(`Cat: ${words.catOf(changed)}`);
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
  }

  function put(submit) {
    submit.preventDefault();
    change('PUT', { cat: name.value });
  }

  box.replaceChildren(el('form', { class: 'for-owner', onsubmit: put },
    el('label', {}, 'Which cat? ', name), names, ' ', el('button', { type: 'submit' }, 'Save'),
    event.cat_named_at && el('p', { class: 'faint' },
      `You said that it was ${event.cat}. ${event.node_cat ? `The cat of the node is ${event.node_cat}. ` : ''}`,
      el('button', { type: 'button', onclick: () => change('DELETE') }, 'Remove the name')),
    failed));
  if (held) name.focus();
}
