// Nodes that the hub found on the network and that wait until a person admits them, or types the code that they show: a
// card, and nothing while none waits.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, say, setText } from './dom.js';

// Digits of an id that are shown, as `cat-node identity show` prints them first.
const ID_DIGITS = 16;

const host = (url) => url.replace(/^[a-z]+:\/\//, '');

// "Tom (kitchen.local:50056)"
const nameOf = ({ cat, url }) => (cat ? `${cat} (${host(url)})` : host(url));

// waiting(changed): `changed` is called after a node was admitted or refused.
export function waiting(changed) {
  const many = el('span', { class: 'count' });
  const heading = el('h2', { id: 'waiting', tabindex: -1 }, 'Nodes waiting to be admitted ', many);
  const list = el('ul');
  const element = el('section', { class: 'card waiting', 'aria-labelledby': 'waiting', hidden: true },
    heading,
    el('p', { class: 'faint' }, 'The hub found these nodes on your network. It listens to a node only after you admit it or pair with it.'),
    list);
  // What was typed, by the key of the node. The list may be drawn again meanwhile.
  const typed = new Map();
  let shown = '';
  let known = null;

  function item(node) {
    const name = nameOf(node);
    const failed = el('div');
    const admitButton = el('button', {
      type: 'button', class: 'main for-admin', 'aria-label': `Admit ${name}`, onclick: admit,
    }, 'Admit');
    const refuseButton = el('button', { type: 'button', class: 'for-admin', 'aria-label': `Refuse ${name}`, onclick: () => askToRefuse(node) }, 'Refuse');

    async function admit() {
      failed.replaceChildren();
      admitButton.disabled = true;
      try {
        await api.admit(node.key);
        done(node.key, `Admitted: ${name}`);
      } catch (error) {
        failed.replaceChildren(problem(error));
        admitButton.disabled = false;
      }
    }

    const code = node.needs_code && el('input', {
      name: 'code', autocomplete: 'off', autocapitalize: 'characters', spellcheck: 'false', maxlength: 20, size: 12,
      required: true, placeholder: '7K3M-Q9TX', value: typed.get(node.key), oninput: () => typed.set(node.key, code.value),
    });
    const pairButton = el('button', { class: 'main', 'aria-label': `Pair with ${name}` }, 'Pair');

    async function pair(event) {
      event.preventDefault();
      failed.replaceChildren();
      pairButton.disabled = true;
      try {
        await api.pair(code.value, host(node.url));
        typed.delete(node.key);
        done(node.key, `Paired: ${name}`);
      } catch (error) {
        failed.replaceChildren(problem(error));
        pairButton.disabled = false;
        code.focus();
      }
    }

    const rows = [
      ['Address', [host(node.url), ...node.addresses].join(', ')],
      ['Id', node.node_id ? el('code', {}, node.node_id.slice(0, ID_DIGITS)) : 'None: this node cannot prove which one it is'],
      ['Version', node.version ?? 'Unknown'],
      ['Waiting since', el('time', { datetime: node.since }, words.moment(node.since))],
    ];
    const unnamed = node.needs_code ? `${host(node.url)} wants to join` : 'A node without a cat’s name';
    return el('li', { 'data-key': node.key },
      el('h3', {}, node.cat ?? unnamed),
      el('dl', { class: 'details' }, rows.map(([term, text]) => el('div', {}, el('dt', {}, term), el('dd', {}, text)))),
      node.node_id && el('p', { class: 'faint' },
        'To compare the id, run ', el('code', {}, 'sudo cat-node identity show'), ' on the device: the first digits are the same.'),
      node.needs_code && el('p', { class: 'faint' },
        'It talks only to hubs that it is paired with. Run ', el('code', {}, 'sudo cat-node pair'), ' on the device, and type the code that it shows.'),
      failed,
      node.needs_code
        ? el('form', { class: 'actions', onsubmit: pair }, el('label', {}, 'Code ', code), pairButton, refuseButton)
        : el('div', { class: 'actions' }, admitButton, refuseButton));
  }

  function askToRefuse(node) {
    const failed = el('div');
    const dialog = el('dialog', { 'aria-labelledby': 'refuse', onclose: () => dialog.remove() },
      el('h2', { id: 'refuse' }, `Refuse ${nameOf(node)}?`),
      el('p', {}, 'The hub does not listen to this node, and does not show it here again until the hub restarts.'),
      failed,
      el('div', { class: 'actions' },
        el('button', { type: 'button', class: 'danger', onclick: refuse }, 'Refuse'),
        el('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Cancel')));
    async function refuse() {
      try {
        await api.refuse(node.key);
        dialog.close();
        done(node.key, `Refused: ${nameOf(node)}`);
      } catch (error) {
        failed.replaceChildren(problem(error));
      }
    }
    document.getElementById('main').append(dialog);
    dialog.showModal();
  }

  // Takes the node out of the list at once. The focus, which was in it, goes to the heading, or to the page.
  function done(key, text) {
    draw(known.filter((node) => node.key !== key));
    (element.hidden ? document.getElementById('main') : heading).focus();
    say(text);
    changed();
  }

  // Shows these nodes and no others. A list that has not changed keeps the focus.
  function draw(nodes) {
    const added = known && nodes.filter((node) => !known.some((other) => other.key === node.key));
    known = nodes;
    const now = JSON.stringify(nodes);
    if (now === shown) return;
    shown = now;
    element.hidden = nodes.length === 0;
    setText(many, `(${words.number(nodes.length)})`);
    const key = list.contains(document.activeElement) && document.activeElement.closest('li').dataset.key;
    const typing = document.activeElement?.name === 'code';
    const place = key ? [...document.activeElement.parentElement.children].indexOf(document.activeElement) : 0;
    list.replaceChildren(...nodes.map(item));
    if (key) {
      const kept = [...list.children].find((one) => one.dataset.key === key);
      const button = () => kept?.querySelectorAll('.actions button')[kept.querySelector('form') ? place - 1 : place];
      ((typing ? kept?.querySelector('.actions input') : button()) ?? heading).focus();
    }
    if (added?.length) say(`A node waits to be ${added[0].needs_code ? 'paired' : 'admitted'}: ${nameOf(added[0])}`);
  }

  return { element, draw };
}
