// The `Analyze` button: half a minute of listening, then the verdict.

import * as words from './words.js';
import * as api from './api.js';
import { el, sentence, setText } from './dom.js';

// How long an analysis listens, in milliseconds; the hub gives up on a slow node some time later and says so.
const LISTENS_MS = 30_000;

// How often it is asked about.
const POLL_MS = 1_000;

export function analysis() {
  const button = el('button', { type: 'button', hidden: true, onclick: start }, 'Analyze');
  const progress = el('progress', { max: 100, value: 0, 'aria-label': 'Analysis' });
  const text = el('p', { class: 'verdict', role: 'status' });
  const element = el('div', { class: 'analysis', hidden: true }, progress, text);
  let cat = null;
  let timer = 0;
  let closed = false;

  async function start() {
    button.disabled = true;
    element.hidden = false;
    element.classList.remove('failed');
    progress.hidden = false;
    progress.value = 0;
    setText(text, `Listening to ${cat} for half a minute`);
    try {
      const place = await api.analyze(cat);
      await follow(place, performance.now());
    } catch (error) {
      element.classList.add('failed');
      setText(text, sentence(error));
    }
    progress.hidden = true;
    button.disabled = false;
  }

  async function follow(place, started) {
    for (;;) {
      await new Promise((done) => { timer = setTimeout(done, POLL_MS); });
      if (closed) return;
      progress.value = Math.min(99, ((performance.now() - started) / LISTENS_MS) * 100);
      const found = await api.get(place);
      if (found.status !== 'running') return tell(found);
    }
  }

  function tell(found) {
    const parts = [found.result ?? 'No verdict'];
    if (found.cat_score !== null) {
      parts.push(`${words.count(found.detection_count, 'call')} heard, cat score ${words.share(found.cat_score)}`);
    }
    if (found.reason) parts.push(found.reason);
    setText(text, `${parts.join('. ')}.`);
    element.classList.toggle('failed', found.status === 'failed');
  }

  return {
    button,
    element,
    // Whom the button asks about. `null`: nobody has a name here.
    of(name, reachable) {
      cat = name;
      button.hidden = name === null || !reachable;
      button.setAttribute('aria-label', `Analyze ${name}`);
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
