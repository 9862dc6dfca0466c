// The page: which view is shown, by the part of the address behind `#`, and what each is told.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem, sentence } from './dom.js';
import { watch } from './stream.js';
import * as event from './event.js';
import * as events from './events.js';
import * as now from './now.js';
import * as player from './player.js';
import * as rhythm from './rhythm.js';

const main = document.getElementById('main');
const offline = document.getElementById('offline');

// Each view: `show(main, parameters)` fills the page and may give back `{ news(kind, data), open(), close() }`.
const views = [
  [/^\/$/, 'now', now],
  [/^\/events$/, 'events', events],
  [/^\/events\/(\d+)$/, 'events', event],
  [/^\/rhythm$/, 'rhythm', rhythm],
];

let shown = {};
let connected = false;
let first = true;

function route() {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  // A link within the page, such as the one that skips the navigation.
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
    shown = view.show(main, { id: pattern.exec(path)[1], query: new URLSearchParams(query) }) ?? {};
  } else {
    main.append(el('h1', {}, 'Nothing here'), problem(`there is no view ${path}`));
  }
  const title = main.querySelector('h1')?.textContent;
  document.title = title ? `${title} · Meowlink` : 'Meowlink';
  // Where a screen reader goes on after a link; not at the start, where the address bar has the focus.
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
    // As in theme.js.
  }
  dispatchEvent(new Event('themechange'));
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => dispatchEvent(new Event('themechange')));

document.getElementById('zone').textContent = words.zone;
document.querySelector('.skip').addEventListener('click', (click) => {
  click.preventDefault();
  main.focus();
});

addEventListener('hashchange', route);
route();

watch({
  news: (kind, data) => shown.news?.(kind, data),
  open() {
    connected = true;
    offline.hidden = true;
    shown.open?.();
  },
  // The stream itself does not say why.
  async lost() {
    connected = false;
    let why = 'Live news are interrupted. Trying again.';
    try {
      await get('api/v1/listening');
    } catch (error) {
      why = `${sentence(error)} Trying again.`;
    }
    if (connected) return;
    offline.textContent = why;
    offline.hidden = false;
  },
});
