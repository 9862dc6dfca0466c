// The button that lets the viewer hear a microphone.

import { el, setText } from './dom.js';

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
    audio.addEventListener('ended', () => mine === audio && fail('the sound has ended'));
    audio.addEventListener('error', () => mine === audio && why());
    element.append(audio);
    set(true);
    audio.play().catch(() => {});
  }

  // An <audio> element does not say what the hub said.
  async function why() {
    const source = audio.src;
    stop();
    try {
      const controller = new AbortController();
      const answer = await fetch(source, { signal: controller.signal });
      const words = answer.ok ? null : (await answer.json()).error.message;
      controller.abort();
      fail(words ?? 'this browser cannot play the sound');
    } catch {
      fail('the hub does not answer');
    }
  }

  function fail(words) {
    stop();
    setText(said, `${words.charAt(0).toUpperCase()}${words.slice(1)}.`);
  }

  function stop() {
    if (!audio) return;
    const mine = audio;
    audio = null;
    mine.pause();
    // Hangs up: a paused element would keep the connection.
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
