// Plays the clips of lists, one at a time.

import { say } from './dom.js';

let audio = null;
let button = null;

// Plays the clip that belongs to a button, or stops it if it is playing.
export function toggle(of, url) {
  const again = button === of;
  stop();
  if (again) return;
  button = of;
  audio = new Audio(url);
  mark(of, true);
  const mine = audio;
  mine.addEventListener('ended', () => mine === audio && stop());
  mine.play().catch((error) => {
    if (mine !== audio) return;
    stop();
    if (error.name !== 'AbortError') say('This clip cannot be played.');
  });
}

export function stop() {
  audio?.pause();
  audio = null;
  if (button) mark(button, false);
  button = null;
}

function mark(of, playing) {
  of.classList.toggle('playing', playing);
  of.setAttribute('aria-label', playing ? of.dataset.stop : of.dataset.play);
}
