// The button "Listen live" of a node.

import { el, sentence, setText } from './dom.js';

export function listening(url) {
  const button = el('button', { type: 'button', class: 'listen', hidden: true, 'aria-pressed': 'false', onclick: toggle });
  const said = el('span', { class: 'problem', role: 'alert' });
  const element = el('span', { class: 'listening' }, button, said);
  let audio = null;
  set(false);

  function set(on) {
    setText(button, on ? 'Stop listening' : 'Listen live');
    button.setAttribute('aria-pressed', on);
  }

  function toggle() {
    if (audio) return stop();
    setText(said, '');
    audio = el('audio', { class: 'hidden' });
    audio.src = `api/v1/nodes/live.wav?node=${encodeURIComponent(url)}`;
    const mine = audio;
    audio.addEventListener('ended', () => mine === audio && fail('the audio stream has ended'));
    audio.addEventListener('error', () => mine === audio && why());
    element.append(audio);
    set(true);
    audio.play().catch(() => {});
  }

  // An <audio> element does not report the hub's error message, so another request asks for it.
  async function why() {
    const source = audio.src;
    stop();
    try {
      const controller = new AbortController();
      const answer = await fetch(source, { signal: controller.signal });
      const message = answer.ok ? null : (await answer.json()).error.message;
      controller.abort();
      fail(message ?? 'this browser cannot play the audio');
    } catch {
      fail('the hub is not responding');
    }
  }

  function fail(message) {
    stop();
    setText(said, sentence(message));
  }

  function stop() {
    if (!audio) return;
    const mine = audio;
    audio = null;
    mine.pause();
    // Without a source it closes the connection; a paused element keeps it open.
    mine.removeAttribute('src');
    mine.load();
    mine.remove();
    set(false);
  }

  return {
    element,
    offer(possible) {
      button.hidden = !possible && !audio;
    },
    close: stop,
  };
}
