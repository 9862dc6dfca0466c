// The waveform of a clip, drawn from its samples, with the playback position.

import * as words from './words.js';
import { bytes } from './api.js';
import { el, sentence } from './dom.js';
import { relative } from './row.js';

const SAMPLE_RATE_HZ = 16_000;

// Length of the WAV header that the hub writes, in bytes: the chunks fmt and data only.
const HEAD = 44;

// Height of the time axis below the waveform, in CSS pixels.
const AXIS_PX = 18;

export function waveform(event) {
  const { clip } = event;
  const canvas = el('canvas', {
    class: 'wave', role: 'img',
    'aria-label': describe(event),
    onclick: seek,
  });
  const trouble = el('p', { class: 'problem', role: 'alert', hidden: true });
  const audio = el('audio', { controls: true, preload: 'metadata', src: relative(clip.url) });
  const element = el('div', { class: 'waveform' }, canvas, trouble);
  let samples = null;
  let drawing = 0;
  let closed = false;

  bytes(relative(clip.url)).then((file) => {
    samples = new Int16Array(file.slice(HEAD));
    redraw();
  }).catch((error) => {
    trouble.textContent = sentence(error);
    trouble.hidden = false;
  });

  function redraw() {
    cancelAnimationFrame(drawing);
    if (closed) return;
    drawing = requestAnimationFrame(() => {
      draw();
      if (!audio.paused) redraw();
    });
  }

  function draw() {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!samples || width === 0) return;
    const scale = devicePixelRatio;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const context = canvas.getContext('2d');
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    const seconds = samples.length / SAMPLE_RATE_HZ;
    const x = (at) => (at / seconds) * width;
    const plot = height - AXIS_PX;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.fillStyle = colour('--mark');
    context.fillRect(x(Math.max(0, clip.event_start_s)), 0, x(event.duration_s + Math.min(0, clip.event_start_s)), plot);
    context.fillStyle = colour('--accent');
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1_000);
    for (let column = 0; column < width; column += 1) {
      let [low, high] = [0, 0];
      const end = ((column + 1) * samples.length) / width;
      for (let n = Math.floor((column * samples.length) / width); n < end; n += 1) {
        low = Math.min(low, samples[n]);
        high = Math.max(high, samples[n]);
      }
      const y = (sample) => (plot / 2) * (1 - (sample / loudest) * 0.95);
      context.fillRect(column, y(high), 1, Math.max(1, y(low) - y(high)));
    }
    context.fillStyle = colour('--faint');
    context.font = '12px system-ui, sans-serif';
    const step = [0.1, 0.2, 0.5, 1, 2, 5].find((one) => x(one) >= 44) ?? 10;
    for (let n = 0; n * step <= seconds; n += 1) {
      const text = n === 0 ? '0 s' : words.number(n * step, step < 1 ? 1 : 0);
      context.fillRect(Math.min(x(n * step), width - 1), plot, 1, 4);
      context.textAlign = n === 0 ? 'left' : 'center';
      if (x(n * step) < width - 12) context.fillText(text, x(n * step), height - 2);
    }
    if (audio.currentTime > 0) {
      context.fillStyle = colour('--ink');
      context.fillRect(x(audio.currentTime) - 1, 0, 2, plot);
    }
  }

  function seek(click) {
    if (!samples) return;
    audio.currentTime = (click.offsetX / canvas.clientWidth) * (samples.length / SAMPLE_RATE_HZ);
  }

  for (const change of ['play', 'pause', 'seeked', 'ended']) audio.addEventListener(change, redraw);
  const sized = new ResizeObserver(redraw);
  sized.observe(canvas);
  addEventListener('themechange', redraw);

  return {
    element,
    audio,
    close() {
      closed = true;
      audio.pause();
      sized.disconnect();
      cancelAnimationFrame(drawing);
      removeEventListener('themechange', redraw);
    },
  };
}

function describe({ clip, duration_s: duration }) {
  const seconds = (value) => words.number(value, 1);
  const [from, to] = [Math.max(0, clip.event_start_s), clip.event_start_s + duration];
  return `Waveform of ${seconds(clip.duration_s)} seconds; the event lasts from ${seconds(from)} to ${seconds(to)} seconds`;
}
