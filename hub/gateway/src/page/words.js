// Words and numbers as the viewer reads them: their language's dates, their time zone.

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const contexts = {
  waiting_for_food: 'Waiting for food',
  isolation: 'Alone',
  brushing: 'Being brushed',
  uncertain: 'Unsure',
  not_a_cat: 'Not a cat',
};

export const kinds = { meow: 'Meow', purr: 'Purr', hiss_or_growl: 'Hiss or growl' };

export const states = {
  connecting: 'Connecting',
  catching_up: 'Catching up',
  live: 'Live',
  quiet: 'Quiet',
  away: 'Away',
};

export const noClip = {
  disabled: 'clips are switched off',
  disk_full: 'the disk was full',
  over_quota: 'it was over the quota',
  write_failed: 'it could not be written',
  audio_gone: 'the sound was gone already',
  speech: 'somebody was speaking',
  expired: 'it was old and made room',
  missing: 'its file is missing',
};

const time = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const fullDate = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
const percent = new Intl.NumberFormat(undefined, { style: 'percent' });
const plain = new Intl.NumberFormat();

export const clock = (moment) => time.format(new Date(moment));
export const moment = (at) => (isToday(at) ? clock(at) : dateTime.format(new Date(at)));
export const longMoment = (at) => fullDate.format(new Date(at));
export const day = (date) => weekday.format(date);
export const share = (part) => percent.format(part);
export const number = (value, digits = 0) =>
  value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const count = (many, one, more = `${one}s`) => `${plain.format(many)} ${many === 1 ? one : more}`;

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
  return relative.format(Math.trunc(seconds), 'second');
}

// "4.2 s", "3 min", "2 h".
export function length(seconds) {
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3_600) return `${number(seconds / 60)} min`;
  return `${number(seconds / 3_600, 1)} h`;
}

export const catOf = (event) => event.cat ?? 'A cat';
