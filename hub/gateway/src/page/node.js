// A microphone: what it hears now, how it is, and what can be asked of it.

import * as words from './words.js';
import { get } from './api.js';
import { el, setText } from './dom.js';
import { analysis } from './analysis.js';
import { listening } from './listening.js';
import { spectrum } from './spectrum.js';

// Sound below this is drawn as none, in dB of full scale.
const QUIETEST_DBFS = -80;

// Lag above this is worth saying, in milliseconds.
const LAG_WORTH_SAYING_MS = 1_500;

const troubles = {
  no_device: 'No sound: the microphone is gone',
  silent: 'Only silence: the microphone is muted or broken',
  ended: 'The recording has ended',
  starting: 'The microphone is being opened',
};

export function card(url) {
  const name = el('h2', {}, url);
  const state = el('span', { class: 'state' });
  const trouble = el('p', { class: 'problem', hidden: true });
  const picture = spectrum();
  const level = meter('Level', 'level');
  const score = meter('Cat', 'hearing');
  const facts = el('p', { class: 'faint facts' });
  const details = el('dl', { class: 'details' });
  const live = listening(url);
  const asked = analysis();
  const element = el('article', { class: 'node card', 'data-node': url },
    el('header', {}, name, state),
    trouble,
    picture.element,
    el('div', { class: 'meters' }, level.element, score.element),
    facts,
    el('div', { class: 'actions' }, live.element, asked.button),
    asked.element,
    el('details', {}, el('summary', {}, 'Details'), details));

  let node = null;
  let listened = null;
  let heardAt = null;
  let lastCat;
  let lag = 0;
  setState('connecting');

  function setState(word) {
    state.className = `state ${word}`;
    setText(state, words.states[word] ?? word);
    element.classList.toggle('off', word === 'away' || word === 'connecting');
    if (word === 'away') {
      level.set(0, '');
      score.set(0, '');
    }
  }

  function tick() {
    const lines = [];
    if (heardAt) lines.push(Date.now() - heardAt < 3_000 ? 'Sound: now' : `Last sound ${words.ago(heardAt)}`);
    if (lastCat) lines.push(`last cat ${words.ago(lastCat.started_at)}`);
    else if (lastCat === null) lines.push('no cat yet');
    if (lag > LAG_WORTH_SAYING_MS) lines.push(`${words.length(lag / 1000)} behind`);
    if (listened?.gaps) {
      const lostFrames = Object.values(listened.lost_frames).reduce((sum, frames) => sum + frames, 0);
      lines.push(`${words.count(listened.gaps, 'gap')}, ${words.length(lostFrames / 50)} lost`);
    }
    setText(facts, lines.join(' · '));
  }

  async function askLastCat() {
    try {
      lastCat = (await get('api/v1/events', { node: url, limit: 1 })).events[0] ?? null;
      tick();
    } catch {
      // The list of today says what is wrong with the store.
    }
  }
  askLastCat();

  return {
    element,
    tick,
    // What the node says of itself, and how listening to it stands.
    look(said, heard, { alone, liveAudio }) {
      node = said;
      listened = heard;
      const cat = said.cat ?? said.description?.cat;
      setText(name, cat || url);
      asked.of(cat || (alone ? 'Cat' : null), said.reachable);
      live.offer(liveAudio && said.reachable);
      if (heard) {
        setState(heard.state);
        heardAt = heard.heard_at && Math.max(heardAt ?? 0, Date.parse(heard.heard_at));
        lag = heard.lag_ms;
      } else setState(said.reachable ? 'quiet' : 'away');
      const source = said.description?.source;
      const why = said.reachable ? troubles[source?.state] : said.error.message;
      trouble.hidden = !why;
      if (why) setText(trouble, sentenceOf(why, said.reachable ? source.detail : ''));
      fill(details, detailsOf(said, heard));
      tick();
    },
    level(now) {
      const part = (dbfs) => Math.max(0, 1 - dbfs / QUIETEST_DBFS);
      level.set(part(now.rms_dbfs), `${words.number(now.rms_dbfs)} dB`, part(now.peak_dbfs));
      score.set(now.score, words.share(now.score));
      heardAt = Date.now() - now.lag_ms;
      lag = now.lag_ms;
    },
    spectrum: (columns) => picture.push(columns),
    state: (now) => setState(now.state),
    gap() {
      if (listened) listened.gaps += 1;
    },
    heard(event) {
      lastCat = event;
      tick();
    },
    close() {
      live.close();
      asked.close();
      picture.close();
    },
  };
}

function sentenceOf(what, detail) {
  const said = detail ? `${what} (${detail})` : what;
  return said.charAt(0).toUpperCase() + said.slice(1) + '.';
}

// A bar that is often changed: told to a screen reader when asked, never by itself.
function meter(label, kind) {
  const bar = el('span', { class: 'bar' });
  const peak = el('span', { class: 'peak', hidden: true });
  const value = el('span', { class: 'value' });
  const track = el('span', {
    class: 'track', role: 'meter', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': 0,
  }, bar, peak);
  return {
    element: el('div', { class: `meter ${kind}` }, el('span', { class: 'name', 'aria-hidden': 'true' }, label), track, value),
    set(part, text, peakPart = 0) {
      bar.style.transform = `scaleX(${part})`;
      peak.style.left = `${peakPart * 100}%`;
      peak.hidden = peakPart === 0;
      track.setAttribute('aria-valuenow', Math.round(part * 100));
      track.setAttribute('aria-valuetext', text || 'nothing');
      setText(value, text);
    },
  };
}

function detailsOf(said, heard) {
  const rows = [['Address', said.url]];
  const described = said.description;
  if (described) {
    const { source, tape, counters } = described;
    const lost = counters.frames_lost_device + counters.frames_lost_overrun;
    rows.push(
      ['Source', [source.kind, source.device].filter(Boolean).join(', ')],
      ['Captures', source.sample_rate_hz ? `${words.number(source.sample_rate_hz / 1000, 1)} kHz, ${words.count(source.channels, 'channel')}` : 'nothing'],
      ['Runs', `${words.length(described.uptime_s)}, version ${described.version}`],
      ['Tape', `${words.length((tape.next_sequence - tape.oldest_sequence) / 50)} of ${words.length(tape.capacity_frames / 50)}`],
      ['Lost at the node', words.length(lost / 50)],
      ['Listeners', words.number(counters.subscribers)]);
  }
  if (heard) {
    rows.push(
      ['Analysed', words.length(heard.frames / 50)],
      ['Behind', `${words.number(heard.lag_ms)} ms`],
      ['Disconnects', words.number(heard.disconnects)]);
    if (heard.error) rows.push(['Error', heard.error]);
    for (const [reason, frames] of Object.entries(heard.lost_frames)) {
      rows.push([`Lost: ${reason.replaceAll('_', ' ')}`, words.length(frames / 50)]);
    }
  }
  return rows;
}

// Fills a list of terms, touching only what changed.
function fill(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([term, text], n) => {
    if (!list.children[n]) list.append(el('div', {}, el('dt'), el('dd')));
    const [dt, dd] = list.children[n].children;
    setText(dt, term);
    setText(dd, text);
  });
}
