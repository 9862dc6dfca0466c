// The button "Analyse": the hub listens for half a minute, then the page shows the verdict.

import * as words from './words.js';
import * as api from './api.js';
import { el, sentence, setText } from './dom.js';

// How long an analysis listens, in milliseconds. If the node is slow, the hub gives up some time later and reports it.
const LISTENS_MS = 30_000;

// How often the page asks for the result.
const POLL_MS = 1_000;

// The name in the request for a cat without a name. The hub sends names that no node claims to the first node.
const ANY_CAT = 'Cat';

// What a cat sounds like, for each verdict.
const VERDICTS = { Hungry: 'hungry', Good: 'content', Bad: 'distressed' };

export function analysis() {
  const button = el('button', { type: 'button', hidden: true, onclick: start }, 'Analyse');
  const progress = el('progress', { max: 100, value: 0, 'aria-label': 'Analysis' });
  const text = el('p', { class: 'verdict', role: 'status' });
  const element = el('div', { class: 'analysis', hidden: true }, progress, text);
  let cat = null;
  let called = '';
  let timer = 0;
  let closed = false;

  async function start() {
    button.disabled = true;
    element.hidden = false;
    element.classList.remove('failed');
    progress.hidden = false;
    progress.value = 0;
    setText(text, `Listening to ${called} for 30 seconds…`);
    try {
      const place = await api.analyze(cat ?? ANY_CAT);
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
    const parts = [found.verdict === null ? 'Analysis failed.' : `${heard(found)}.`];
    if (found.reason) parts.push(sentence(found.reason));
    setText(text, parts.join(' '));
    element.classList.toggle('failed', found.status === 'failed');
  }

  // "Tom sounds hungry (19 meows in 30 s)"
  function heard({ verdict, detection_count: many, heard_s: seconds }) {
    const during = words.length(seconds);
    if (many === 0) return words.capital(`${called} was not heard in ${during}`);
    const mood = VERDICTS[verdict];
    const what = mood ? `${called} sounds ${mood}` : `It is unclear what ${called} wants`;
    return words.capital(`${what} (${words.count(many, 'meow')} in ${during})`);
  }

  return {
    button,
    element,
    // The cat that the button analyses; `null` if it has no name.
    of(name, possible) {
      cat = name;
      called = name ?? 'the cat';
      button.hidden = !possible;
      button.setAttribute('aria-label', `Analyse ${called}`);
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
