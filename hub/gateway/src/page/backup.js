// How the backups are: a line that opens, with a button. It is open while something is wrong.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, sentence } from './dom.js';

// How often the page looks at the backups, and how often while one is under way.
const LOOK_MS = 60_000;
const RUNNING_MS = 2_000;

// A backup older than this is late: one is made every night.
const LATE_S = 48 * 3_600;

// What is wrong, the worst first. Null: nothing.
function trouble({ to, last, failure, check, only_on_data_disk: onlyHere }) {
  if (check?.fault) return `The database is damaged: ${check.fault}. Restore a backup or a snapshot.`;
  if (failure) return `The last backup failed: ${sentence(failure.message)}`;
  if (!last && !to) {
    return 'There is no backup. In hub.toml, below [backup], set “to” to a folder on another disk, '
      + 'or run “hub backup”.';
  }
  if (!last) return 'There is no backup yet.';
  if (onlyHere) return 'The only backup is on the same disk as the data. If the disk fails, both are lost.';
  if (last.age_s > LATE_S) return 'The last backup is old.';
  return null;
}

export function backups() {
  const summary = el('summary');
  const inside = el('div');
  const details = el('details', {}, summary, inside);
  const element = el('section', { class: 'card backups', 'aria-label': 'Backup', hidden: true }, details);
  let shown = '';
  let timer = 0;
  let closed = false;

  async function look() {
    clearTimeout(timer);
    let running = false;
    try {
      const state = await api.get('api/v1/backup');
      if (closed) return;
      running = state.running;
      draw(state);
    } catch {
      // Another process may make the backups. If the hub fails, the lists next to this one show the error.
    }
    if (!closed) timer = setTimeout(look, running ? RUNNING_MS : LOOK_MS);
  }

  function draw(state) {
    const { to, last, running, snapshots } = state;
    const wrong = trouble(state);
    const age = last ? words.ago(last.made_at) : 'none';
    // An unchanged card keeps the focus.
    const now = JSON.stringify([{ ...state, last: { ...last, age_s: 0 } }, age, wrong]);
    if (now === shown) return;
    shown = now;
    element.hidden = false;
    const mark = wrong ? ' · needs attention' : '';
    summary.textContent = running ? 'Backup: running…' : `Last backup: ${age}${mark}`;
    const focused = inside.contains(document.activeElement);
    inside.replaceChildren(
      wrong ? el('p', { class: 'problem' }, wrong) : '',
      last ? el('p', { class: 'faint' }, `${words.longMoment(last.made_at)}, in ${last.to}: `
        + `${words.count(last.events, 'event')}, ${words.number(last.bytes / 1e6)} MB`) : '',
      el('p', { class: 'faint' }, `${words.count(snapshots.count, 'snapshot')} of the database on this disk`),
      to ? el('button', { type: 'button', class: 'for-admin', disabled: running, onclick: (click) => begin(click.target) }, 'Back up now') : '');
    if (focused) summary.focus();
  }

  async function begin(button) {
    button.disabled = true;
    try {
      await api.backUp();
      look();
    } catch (error) {
      button.after(problem(error));
      button.disabled = false;
    }
  }

  look();
  return {
    element,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
