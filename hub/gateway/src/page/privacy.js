// What the hub stores, where and how long, and a form for admins that deletes everything about a cat or before a day.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, say } from './dom.js';

const PATH = 'api/v1/deletions';

// How often the page looks while a deletion is under way.
const LOOK_MS = 1_000;

const days = (count) => (count == null ? 'until there are too many' : words.count(count, 'day'));
const megabytes = (bytes) => `${words.number(bytes / 1e6)} MB`;
const counted = ({ events, clips, labels, notifications, analyses }) => [
  words.count(events, 'event'), words.count(clips, 'recording'), words.count(labels, 'label'),
  words.count(notifications, 'notification'), `${words.number(analyses)} analyses`].join(', ');
const about = ({ cat, of_cat: ofCat, before }) => [
  ofCat ? `everything about ${cat ?? 'one cat'}` : 'everything', before && `before ${words.longMoment(before)}`]
  .filter(Boolean).join(' ');

function stored(said) {
  const { clips, events, notifications, quarantine, snapshots, backups, audit_log: audit, live_audio: live } = said;
  const rows = [
    ['Recordings', clips.enabled
      ? `Up to ${clips.before_s} s before and ${clips.after_s} s after each event. ${clips.speech_cut_off
        ? 'Speech is cut off. A recording that is mostly speech is not kept.' : 'Speech is not cut off.'}`
      : 'Off',
    `${days(clips.keep_days)}; at most ${words.number(clips.keep_count)} and ${megabytes(clips.keep_bytes)}. `
      + `Labelled ones: at most ${words.number(clips.labelled_keep_count)}.`,
    `clips: ${words.number(clips.count)} now, ${megabytes(clips.bytes)}`],
    ['Events and labels', 'When and where a cat was heard, its name, measurements, and your labels',
      `${days(events.keep_days)}; at most ${words.number(events.keep_count)}`, 'hub.sqlite, labels.jsonl'],
    ['Notifications', 'What owners were sent', days(notifications.keep_days), 'hub.sqlite'],
    ['Quarantine', 'Recordings whose event was lost',
      `${days(quarantine.keep_days)}; at most ${megabytes(quarantine.keep_bytes)}`, 'quarantine'],
    ['Snapshots', 'Daily copies of the database', `The last ${snapshots.keep_count}`, 'snapshots'],
    ['Backups', 'Copies of everything', backups.to ? `The last ${backups.keep_count}` : 'Off', backups.to ?? ''],
    ['Audit log', 'Who changed what, and who heard live audio', days(audit.keep_days), 'hub.sqlite'],
  ];
  const who = { listener: 'People with the role listener or more can hear it.', everyone: 'Everyone who reaches this hub can hear it.' };
  return [
    el('section', { class: 'card' },
      el('p', {}, 'Everything is in the folder ', el('code', {}, said.data_dir), ' of this hub. Nothing is sent elsewhere but your notifications, and what your MQTT broker gets.'),
      el('div', { class: 'scrolls', tabindex: '0', role: 'region', 'aria-label': 'What is stored' }, el('table', {},
        el('thead', {}, el('tr', {}, ['What', 'Contents', 'How long', 'Where'].map((name) => el('th', { scope: 'col' }, name)))),
        el('tbody', {}, rows.map(([name, ...cells]) => el('tr', {}, el('th', { scope: 'row' }, name), cells.map((cell) => el('td', {}, cell)))))))),
    el('section', { class: 'card' }, el('h2', {}, 'Live audio'),
      el('p', {}, live.enabled ? `${who[live.who]} Now listening: ${live.listening_now}.` : 'Off.', ' It is not stored.')),
    said.other_copies.length > 0 && el('section', { class: 'card' }, el('h2', {}, 'Old copies'),
      el('p', {}, 'The hub does not change these. Delete them yourself when you do not need them:'),
      el('ul', {}, said.other_copies.map((name) => el('li', {}, el('code', {}, name))))),
  ];
}

export function show(main) {
  const facts = el('div');
  const failed = el('div');
  const list = el('div', { role: 'status' });
  const cat = el('input', { id: 'delete-cat', autocomplete: 'off', maxlength: 200 });
  const day = el('input', { id: 'delete-before', type: 'date' });
  const form = el('form', { class: 'card deletion', hidden: true, onsubmit: submit },
    el('h2', {}, 'Delete everything'),
    el('p', {}, 'Deletes events with their recordings, labels and notifications permanently. With both fields: what this cat did before this day.'),
    el('label', { for: 'delete-cat' }, 'About this cat '), cat, ' ',
    el('label', { for: 'delete-before' }, 'Before this day '), day, ' ',
    el('button', {}, 'Delete…'), failed);
  main.append(el('h1', {}, 'Privacy'), el('div', { class: 'privacy' }, facts, form, list));
  document.title = 'Privacy · Meowlink';
  let timer = 0;

  async function draw() {
    clearTimeout(timer);
    try {
      const said = await api.get('api/v1/privacy');
      if (!form.isConnected) return;
      facts.replaceChildren(...stored(said).filter(Boolean));
      const all = said.deletions;
      list.replaceChildren(...(all.length === 0 ? [] : [el('section', { class: 'card' }, el('h2', {}, 'Deletions'),
        el('ul', {}, all.map((one) => el('li', {}, `${words.moment(one.requested_at)}: ${about(one)}. `
          + `${one.state === 'done' ? 'Deleted' : 'Under way, so far'}: ${counted(one.deleted)}.`))),
        el('p', { class: 'faint' }, all[0].not_deleted))]));
      // A view that is no longer shown looks no more.
      if (all.some((one) => one.state !== 'done')) timer = setTimeout(draw, LOOK_MS);
    } catch (error) {
      facts.replaceChildren(problem(error));
    }
  }

  async function submit(event) {
    event.preventDefault();
    failed.replaceChildren();
    const body = {};
    if (cat.value) body.cat = cat.value;
    // Midnight by the viewer's clock.
    if (day.value) body.before = new Date(`${day.value}T00:00`).toISOString();
    try {
      const preview = await (await api.send('POST', PATH, { ...body, dry_run: true })).json();
      if (!confirm(`Delete ${about(preview)}? ${counted(preview.deleted)}. ${preview.not_deleted}`)) return;
      await api.send('POST', PATH, body);
      say('The deletion begins');
      form.reset();
      draw();
    } catch (error) {
      failed.replaceChildren(problem(error));
    }
  }

  draw();
  api.get('api/v1/session').then(({ role, has_users: hasUsers }) => {
    form.hidden = hasUsers && role !== 'admin';
  }, () => {});
}
