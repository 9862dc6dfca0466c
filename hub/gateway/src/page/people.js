// For admins: users, tokens of programs, sessions, and who did what.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, say } from './dom.js';

const roles = ['viewer', 'listener', 'owner', 'admin'];
const path = (...parts) => `api/v1/${parts.map(encodeURIComponent).join('/')}`;
const choice = (role, attributes = {}) => el('select', { 'aria-label': 'Role', ...attributes },
  roles.map((one) => el('option', { selected: one === role }, one)));
const used = (at) => el('span', { class: 'faint' }, at ? ` last used ${words.ago(at)} ` : ' never used ');

export function show(main) {
  const failed = el('div');
  const made = el('p', { role: 'status' });
  const body = el('div', { class: 'stack' });
  main.append(el('h1', {}, 'People'), failed, made, body);

  async function act(text, ...request) {
    failed.replaceChildren();
    try {
      const answer = await api.send(...request);
      say(text);
      draw();
      return answer;
    } catch (error) {
      failed.replaceChildren(problem(error));
      // What was typed into a form stays. A choice goes back to what the hub has.
      if (request[0] !== 'POST') draw();
      return null;
    }
  }

  const button = (text, label, onclick) => el('button', { type: 'button', 'aria-label': label, onclick }, text);
  const remove = (kind, name) => button('Remove', `Remove ${name}`, () => {
    if (confirm(`Remove ${name}?`)) act('Removed', 'DELETE', path(kind, name));
  });
  const section = (title, ...children) => el('section', { class: 'card' }, el('h2', {}, title), children);
  const list = (items, item) => el('ul', { class: 'people' }, items.map((one) => el('li', {}, item(one))));

  // A form with a name, a role and perhaps a password.
  function add(kind, withPassword, done) {
    const name = el('input', { 'aria-label': 'Name', placeholder: 'Name', required: true, autocomplete: 'off' });
    const password = el('input', {
      'aria-label': 'Password', placeholder: 'Password', type: 'password', required: true, autocomplete: 'new-password',
    });
    const role = choice('viewer');
    const days = el('input', { 'aria-label': 'Days until it expires', placeholder: 'Days (empty: for ever)', type: 'number', min: 1 });
    async function submit(event) {
      event.preventDefault();
      const body = { name: name.value, role: role.value };
      if (withPassword) body.password = password.value;
      if (!withPassword && days.value) body.days = Number(days.value);
      const answer = await act('Added', 'POST', path(kind), body);
      done?.(answer);
    }
    return el('form', { class: 'actions', onsubmit: submit }, name, withPassword && password, role, !withPassword && days, el('button', {}, 'Add'));
  }

  async function draw() {
    try {
      const [{ users }, { tokens }, { sessions }, { entries }] = await Promise.all(
        ['users', 'tokens', 'sessions', 'audit'].map((kind) => api.get(path(kind))));
      body.replaceChildren(
        section('Users', list(users, ({ name, role, used_at: at }) => [el('strong', {}, name), ' ',
          choice(role, { 'aria-label': `Role of ${name}`, onchange: (event) => act('Changed', 'PUT', path('users', name), { role: event.target.value }) }),
          used(at), remove('users', name)]), add('users', true)),
        section('Tokens of programs', list(tokens, ({ name, role, used_at: at }) => [
          el('strong', {}, name), ` ${role}`, used(at), remove('tokens', name)]),
        add('tokens', false, async (answer) => {
          if (!answer) return;
          const { token } = await answer.json();
          made.replaceChildren('The token, which is shown once: ', el('code', {}, token), ' ',
            button('Copy', 'Copy the token', () => navigator.clipboard?.writeText(token).then(() => say('Copied'), () => {})));
        })),
        section('Logged in', list(sessions, ({ id, user, address, agent, used_at: at, this: own }) => [
          el('strong', {}, user), ` ${own ? 'this browser' : `${address} ${agent}`}`, used(at),
          button('End', `End session of ${user}`, () => act('Ended', 'DELETE', path('sessions', id)))])),
        section('Who did what', list(entries, ({ at, who, address, action, subject }) => [
          el('time', { datetime: at }, words.moment(at)), ` ${who}${address && ` (${address})`}: ${action.replaceAll('_', ' ')} ${subject}`])));
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
  }

  draw();
}
