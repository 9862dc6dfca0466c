// Shows the view that the part of the address after `#` names, and passes the hub's live updates on to it.

import * as words from './words.js';
import { get, isLogIn, send } from './api.js';
import { el, problem, sentence } from './dom.js';
import { watch } from './stream.js';
import * as event from './event.js';
import * as events from './events.js';
import * as now from './now.js';
import * as player from './player.js';

const main = document.getElementById('main');
const offline = document.getElementById('offline');

// Loaded when somebody opens it. Another view may be shown by then.
const later = (load) => ({
  async show(to, parameters) {
    const { hash } = location;
    const view = await load();
    if (location.hash === hash) present(view.show(to, parameters));
  },
});
const login = later(() => import('./login.js'));

// Each view exports `show(main, parameters)`. It fills the page and may return `{ news(kind, data), open(), lost(),
// close() }`: `news` gets live updates, `open` is called after every connection, `lost` when one breaks, `close` before
// another view is shown.
const views = [
  [/^\/$/, 'now', now],
  [/^\/events$/, 'events', events],
  [/^\/events\/(\d+)$/, 'events', event],
  [/^\/rhythm$/, 'rhythm', later(() => import('./rhythm.js'))],
  [/^\/labels$/, 'events', later(() => import('./labels.js'))],
  [/^\/people$/, 'people', later(() => import('./people.js'))],
  [/^\/privacy$/, 'privacy', later(() => import('./privacy.js'))],
  [/^\/login$/, 'login', login],
  [/^\/setup\/([\w-]+)$/, 'login', login],
];

let shown = {};
let connected = false;
let first = true;

function present(view) {
  shown = view ?? {};
  const title = main.querySelector('h1')?.textContent;
  document.title = title ? `${title} · Meowlink` : 'Meowlink';
}

function route() {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  // Not a view but a link within the page, such as "Skip to content".
  if (!path.startsWith('/')) return;
  shown.close?.();
  player.stop();
  shown = {};
  main.replaceChildren();
  const found = views.find(([pattern]) => pattern.test(path));
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === found?.[1]) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (found) {
    const [pattern, , view] = found;
    present(view.show(main, { id: pattern.exec(path)[1], query: new URLSearchParams(query) }));
  } else {
    main.append(el('h1', {}, 'Page not found'), problem(`there is no page at ${path}`));
    present();
  }
  // After a link, a screen reader continues here. On load, the focus stays where the browser put it.
  if (!first) main.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
  first = false;
}

const theme = document.getElementById('theme');
theme.value = document.documentElement.dataset.theme;
theme.addEventListener('change', () => {
  document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem('theme', theme.value);
  } catch {
    // Storage may be forbidden; see theme.js.
  }
  dispatchEvent(new Event('themechange'));
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => dispatchEvent(new Event('themechange')));

// A hub with a CA of its own has a QR code of the address of its certificate.
fetch('ca.svg').then((answer) => {
  if (answer.status !== 200) return;
  const phone = document.getElementById('phone');
  phone.append(el('img', { src: 'ca.svg', width: 200, height: 200, alt: 'QR code: address of the certificate' }));
  phone.hidden = false;
}).catch(() => {
  // The views show that the hub does not answer.
});

document.getElementById('zone').textContent = words.zone;
document.querySelector('.skip').addEventListener('click', (click) => {
  click.preventDefault();
  main.focus();
});

// Who may change users sees the link to them, and who has logged in may log out.
const out = document.getElementById('out');
out.addEventListener('click', async () => {
  await send('DELETE', 'api/v1/session').catch(() => {});
  location.hash = '#/login';
  location.reload();
});
// What the role does not allow is not shown: see `data-role` in style.css.
function greet({ user, role, needs_log_in: needsLogIn }) {
  document.querySelector('[data-view=people]').hidden = role !== 'admin';
  document.querySelector('nav').hidden = needsLogIn;
  out.hidden = !user;
  if (role) document.body.dataset.role = role;
  if (needsLogIn && !isLogIn()) history.replaceState(null, '', '#/login');
  return needsLogIn;
}

// A hub that does not answer is reported where the page asks it next.
const needsLogIn = await get('api/v1/session').then(greet, () => false);
addEventListener('hashchange', route);
route();

if (!needsLogIn) watch({
  news: (kind, data) => shown.news?.(kind, data),
  open() {
    connected = true;
    offline.hidden = true;
    shown.open?.();
  },
  // An EventSource does not report why it failed, so another request finds out.
  async lost() {
    connected = false;
    shown.lost?.();
    let why = 'Live updates interrupted. Reconnecting…';
    try {
      await get('api/v1/listening');
    } catch (error) {
      why = `${sentence(error)} Reconnecting…`;
    }
    if (connected) return;
    offline.textContent = why;
    offline.hidden = false;
  },
});
