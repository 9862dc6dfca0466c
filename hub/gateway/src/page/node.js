// The card of a node: its live audio, its state, and the buttons for it.

import * as words from './words.js';
import { get } from './api.js';
import { el, sentence, setText } from './dom.js';
import { analysis } from './analysis.js';
import { listening } from './listening.js';
import { spectrum } from './spectrum.js';

// Level at which the meter is empty.
const QUIETEST_DBFS = -80;

// Lag above which the card mentions it, in milliseconds.
const LAG_WORTH_SAYING_MS = 1_500;

export function card(url) {
  const name = el('h2', {}, url);
  const state = el('span', { class: 'state' });
  const trouble = el('p', { class: 'problem', hidden: true });
  const picture = spectrum();
  const level = meter('Level', 'level');
  const score = meter('Cat', 'hearing');
  const facts = el('p', { class: 'faint facts' });
  const details = el('dl', { class: 'details' });
  const scores = el('div');
  const live = listening(url);
  const asked = analysis();
  const element = el('article', { class: 'node card', 'data-node': url },
    el('header', {}, name, state),
    trouble,
    picture.element,
    el('div', { class: 'meters' }, level.element, score.element),
    facts,
    el('div', { class: 'actions' }, el('span', { class: 'for-listener' }, live.element), el('span', { class: 'for-owner' }, asked.button)),
    asked.element,
    el('details', { ontoggle: tryScore }, el('summary', {}, 'Details'), details, scores));

  // Loaded when the details are opened for the first time.
  function tryScore() {
    if (!scores.firstChild) import('./preview.js').then(({ preview }) => scores.replaceChildren(preview(url, node?.min_score)), () => {});
  }

  let node = null;
  let listened = null;
  let heardAt = null;
  let lastCat;
  let lag = 0;
  setState('connecting');

  // A node that cannot stream is quiet to the hub. That is no fault.
  const streams = (word) => (word === 'quiet' && node?.condition === 'no_audio' ? 'no_audio' : word);

  function setState(word) {
    state.className = `state ${word}`;
    setText(state, words.states[word] ?? word);
    element.classList.toggle('off', ['away', 'connecting', 'unknown'].includes(word));
    if (word === 'away' || word === 'unknown') {
      level.set(0, '');
      score.set(0, '');
    }
  }

  function tick() {
    const lines = [];
    if (heardAt) lines.push(Date.now() - heardAt < 3_000 ? 'streaming' : `last audio ${words.ago(heardAt)}`);
    if (lastCat) lines.push(`cat last heard ${words.ago(lastCat.started_at)}`);
    else if (lastCat === null) lines.push('no cat heard yet');
    if (lag > LAG_WORTH_SAYING_MS) lines.push(`${words.length(lag / 1000)} behind`);
    if (listened?.gaps) {
      const lostFrames = Object.values(listened.lost_frames).reduce((sum, frames) => sum + frames, 0);
      lines.push(`${words.count(listened.gaps, 'gap')}, ${words.length(lostFrames / 50)} lost`);
    }
    setText(facts, words.capital(lines.join(' · ')));
  }

  async function askLastCat() {
    try {
      lastCat = (await get('api/v1/events', { node: url, limit: 1, announced: true })).events[0] ?? null;
      tick();
    } catch {
      // If the store fails, the list of today's events shows the error.
    }
  }
  askLastCat();

  return {
    element,
    tick,
    // Shows what the node reports about itself, and how the hub's stream from it is doing.
    look(said, heard, { alone, liveAudio }) {
      node = said;
      listened = heard;
      const cat = said.cat ?? said.description?.cat;
      setText(name, cat || url);
      asked.of(cat || null, said.reachable && Boolean(cat || alone));
      live.offer(liveAudio && said.reachable);
      if (heard) {
        setState(streams(heard.state));
        heardAt = heard.heard_at && Math.max(heardAt ?? 0, Date.parse(heard.heard_at));
        lag = heard.lag_ms;
      } else setState(said.reachable ? 'unwatched' : 'away');
      const source = said.description?.source;
      const why = said.reachable ? words.conditions[said.condition] || words.sources[source?.state] : said.error.message;
      trouble.hidden = !why;
      trouble.className = said.condition === 'no_audio' ? 'faint' : 'problem';
      const detail = said.reachable && source?.detail;
      if (why) setText(trouble, sentence(detail ? `${why} (${detail})` : why));
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
    state: (now) => setState(streams(now.state)),
    // The hub does not respond: what it said last is out of date.
    lost: () => setState('unknown'),
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

// A bar that changes often. A screen reader reads it on request, and does not announce changes.
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
      track.setAttribute('aria-valuetext', text || 'No audio');
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
      ['Input', source.sample_rate_hz ? `${words.number(source.sample_rate_hz / 1000, 1)} kHz, ${words.count(source.channels, 'channel')}` : 'Not open'],
      ['Version', described.version],
      ['Uptime', words.length(described.uptime_s)],
      ['Tape', `${words.length((tape.next_sequence - tape.oldest_sequence) / 50)} of ${words.length(tape.capacity_frames / 50)}`],
      ['Lost on the node', words.length(lost / 50)],
      ['Subscribers', words.number(counters.subscribers)]);
  }
  if (heard) {
    rows.push(
      ['Analysed', words.length(heard.frames / 50)],
      ['Lag', `${words.number(heard.lag_ms)} ms`],
      ['Disconnections', words.number(heard.disconnects)]);
    if (heard.error) rows.push(['Error', heard.error]);
    for (const [reason, frames] of Object.entries(heard.lost_frames)) {
      rows.push([`Lost: ${reason.replaceAll('_', ' ')}`, words.length(frames / 50)]);
    }
  }
  return rows;
}

// Fills a list of terms, and changes only what differs.
function fill(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([term, text], n) => {
    if (!list.children[n]) list.append(el('div', {}, el('dt'), el('dd')));
    const [dt, dd] = list.children[n].children;
    setText(dt, term);
    setText(dd, text);
  });
}
