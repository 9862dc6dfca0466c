// The owner's own labels in one place: add, rename, remove.

import * as words from './words.js';
import { get, send } from './api.js';
import { el, problem, say } from './dom.js';
import { offerUndo } from './row.js';

const PATH = 'api/v1/own-labels';

export function show(main) {
  const list = el('ul', { class: 'own-labels' });
  const failed = el('div');
  const others = el('div', { role: 'status' });
  const name = el('input', { id: 'new-label', maxlength: 40, autocomplete: 'off', required: true });
  main.append(el('p', { class: 'back' }, el('a', { href: '#/events' }, '← All events')), el('h1', {}, 'Your own labels'),
    el('p', { class: 'faint' }, 'Labels next to the contexts, such as “let me out”. Notifications and counts treat events with such a label as unclear. Once five events of a cat have a label, and five have others, the hub suggests it for similar sounds.'),
    failed, others, list,
    el('form', { class: 'card for-owner', onsubmit: add },
      el('label', { for: 'new-label' }, 'New label'), ' ', name, ' ', el('button', { type: 'submit' }, 'Add')));
  draw();

  async function change(work, done) {
    failed.replaceChildren();
    others.replaceChildren();
    try {
      await work();
      say(done);
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
    await draw();
  }

  function add(submit) {
    submit.preventDefault();
    change(async () => {
      await send('POST', PATH, { name: name.value });
      name.value = '';
    }, 'Label added');
  }

  async function remove(path) {
    const { changed, undo } = await (await send('DELETE', path)).json();
    if (undo.length) offerUndo(others, `${words.count(changed, 'event')} changed`, undo, draw);
  }

  async function draw() {
    try {
      const { own_labels: own } = await get(PATH);
      list.replaceChildren(...own.map(row));
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
  }

  function row(label) {
    const field = el('input', { value: label.name, maxlength: 40, 'aria-label': `New name of ${label.name}`, autocomplete: 'off' });
    const path = `${PATH}/${label.id}`;
    return el('li', {}, el('span', {}, `${label.name} (${words.count(label.events, 'event')}${label.suggested ? `, suggested for ${words.number(label.suggested)} more` : ''}) `),
      el('span', { class: 'for-owner' }, field, ' ',
        el('button', { type: 'button', onclick: () => change(() => send('PUT', path, { name: field.value }), 'Label renamed') }, 'Rename'), ' ',
        el('button', { type: 'button', class: 'danger', onclick: () => confirm(`Remove “${label.name}”? Its events lose this label.`)
          && change(() => remove(path), 'Label removed') }, 'Remove')));
  }
}
