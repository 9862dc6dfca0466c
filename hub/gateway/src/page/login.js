// The log-in, and the form of the set-up link, which adds the first user.

import * as api from './api.js';
import { el, problem } from './dom.js';

export function show(main, { id: secret }) {
  const failed = el('div');
  const field = (text, input) => el('label', { class: 'field' }, text, input);
  const name = el('input', { name: 'name', autocomplete: 'username', autocapitalize: 'none', required: true });
  const password = el('input', {
    name: 'password', type: 'password', required: true, autocomplete: secret ? 'new-password' : 'current-password',
  });

  const again = secret && el('input', { type: 'password', required: true, autocomplete: 'new-password' });

  async function submit(event) {
    event.preventDefault();
    failed.replaceChildren();
    if (again && again.value !== password.value) {
      failed.replaceChildren(problem('the two passwords differ'));
      return;
    }
    const who = { name: name.value, password: password.value };
    try {
      if (secret) await api.send('POST', 'api/v1/setup', { secret, ...who });
      await api.send('POST', 'api/v1/session', who);
      location.hash = '#/';
      location.reload();
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
  }

  main.append(el('form', { class: 'card', onsubmit: submit },
    el('h1', {}, secret ? 'Set up Meowlink' : 'Log in'),
    secret && el('p', {}, 'Choose the name and password of the first user, who may do everything. The password needs at least 8 characters.'),
    field('Name', name), field('Password', password), again && field('Password again', again), failed,
    el('div', { class: 'actions' }, el('button', { class: 'main' }, secret ? 'Add user' : 'Log in'))));
  if (secret) return;
  api.get('api/v1/session').then(({ has_users: hasUsers }) => {
    if (!hasUsers) failed.append(problem('The hub has no users yet. Open the set-up link of its log, or run “hub user add NAME” on its machine'));
  }, () => {});
}
