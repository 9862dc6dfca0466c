// Words, numbers and dates of the page. They are English; the time zone and the 12-hour or 24-hour clock are the viewer's.

const viewer = Intl.DateTimeFormat(undefined, { hour: 'numeric' }).resolvedOptions();

// The viewer's own kind of English, which decides, for example, whether the day comes before the month. For a browser in
// another language: British English, or Australian English for a 12-hour clock ("6:42 pm", not "06:42 pm").
const english = /^en\b/.test(viewer.locale) ? viewer.locale : viewer.hour12 ? 'en-AU' : 'en-GB';

export const zone = viewer.timeZone;

export const contexts = {
  waiting_for_food: 'Waiting for food',
  isolation: 'Alone',
  brushing: 'Being brushed',
  uncertain: 'Unclear',
  not_a_cat: 'Not a cat',
};

export const kinds = { meow: 'Meow', purr: 'Purr', hiss_or_growl: 'Hiss or growl' };

// States of listening to a node, and three of the page's own. `unwatched`: the node answers, but the hub does not
// stream from it. `no_audio`: the node cannot stream. `unknown`: the hub does not respond, so nobody knows.
export const states = {
  connecting: 'Connecting',
  catching_up: 'Catching up',
  live: 'Live',
  quiet: 'Deaf',
  away: 'Away',
  unwatched: 'Reachable',
  no_audio: 'No audio',
  unknown: 'Unknown',
};

// What each condition of a node means. Empty: nothing to say, or the page says it elsewhere. `away` comes with the
// hub's error, and `not_stored` is said once for all nodes.
export const conditions = {
  ok: '',
  away: '',
  no_device: 'No audio: the microphone is disconnected',
  silent: 'Silence: the microphone is muted or broken',
  ended: 'The recording has ended',
  quiet: 'Connected, but no audio arrives',
  no_sound: 'Nothing louder than a quiet room for a long time: check the microphone',
  no_audio: 'This node answers, but its program does not stream audio. To hear this cat, run cat-node on its device',
  not_stored: '',
};

// What each state of a node's source means. Empty: nothing to say, or its condition says it.
export const sources = {
  unknown: '',
  starting: 'Opening the microphone',
  capturing: '',
  silent: '',
  no_device: '',
  ended: '',
};

// Why an event has no clip: "No recording: …".
export const noClip = {
  disabled: 'clips are turned off',
  disk_full: 'the disk was almost full',
  over_quota: 'the clip was above the storage limit for clips',
  write_failed: 'the clip could not be written to disk',
  audio_gone: 'the audio was no longer in memory',
  speech: 'someone was speaking',
  expired: 'the clip was deleted because of its age, or to make room',
  missing: 'the file of the clip is missing',
};

const dates = (options) => new Intl.DateTimeFormat(english, { hourCycle: viewer.hourCycle, ...options });
const time = dates({ timeStyle: 'medium' });
const hourAndMinute = dates({ timeStyle: 'short' });
const dateTime = dates({ dateStyle: 'medium', timeStyle: 'medium' });
const fullDate = dates({ dateStyle: 'full', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(english, { weekday: 'short', day: 'numeric', month: 'short' });
const relative = new Intl.RelativeTimeFormat(english, { numeric: 'auto' });
const percent = new Intl.NumberFormat(english, { style: 'percent' });
const plain = new Intl.NumberFormat(english);

export const clock = (moment) => time.format(new Date(moment));
export const hour = (moment) => hourAndMinute.format(new Date(moment));
export const moment = (at) => (isToday(at) ? clock(at) : dateTime.format(new Date(at)));
export const longMoment = (at) => fullDate.format(new Date(at));
export const day = (date) => weekday.format(date);
export const share = (part) => percent.format(part);
export const number = (value, digits = 0) =>
  value.toLocaleString(english, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const count = (many, one, more = `${one}s`) => `${plain.format(many)} ${many === 1 ? one : more}`;

// "at 15:52:56" today, "on 28 Nov 2026, 15:52:56" earlier: for use in a sentence.
export const atMoment = (at) => `${isToday(at) ? 'at' : 'on'} ${moment(at)}`;

// Nodes by their ids, or by their URLs if they have proved no id. An id that the page has not read yet is cut short.
const names = new Map();

export function learnNodes(nodes) {
  for (const node of nodes) names.set(node.node_id ?? node.url, node.url);
}

export function nodes(ids) {
  const known = ids.map((id) => names.get(id) ?? (/^[0-9a-f]{64}$/.test(id) ? `node ${id.slice(0, 16)}` : id));
  return new Intl.ListFormat('en').format(known);
}

export function isToday(at) {
  return new Date(at).toDateString() === new Date().toDateString();
}

// The viewer's midnight, as the API takes it.
export function midnight() {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate()).toISOString();
}

// "3 seconds ago", in the largest unit that fits.
export function ago(at) {
  const seconds = Math.min(0, (new Date(at) - Date.now()) / 1000);
  for (const [unit, length] of [['day', 86_400], ['hour', 3_600], ['minute', 60]]) {
    if (-seconds >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return seconds > -1 ? 'just now' : relative.format(Math.trunc(seconds), 'second');
}

// "4.2 s", "3 min", "2.5 h".
export function length(seconds) {
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3_600) return `${number(seconds / 60)} min`;
  return `${number(seconds / 3_600, 1)} h`;
}

// The owner's own label, or one that the hub suggests, with a question mark, or what the event counts as.
export const saidOf = ({ label, suggested_label: maybe, counts_as: word }) => contexts[label] ?? label ?? (maybe ? `${maybe}?` : contexts[word] ?? word);

export const catOf = (event) => event.cat ?? 'A cat';

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
