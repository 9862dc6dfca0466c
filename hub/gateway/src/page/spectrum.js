// A live spectrogram that scrolls, with the newest audio on the right.

import { el, lessMotion } from './dom.js';

// Visible columns: 20 s at 15.6 columns a second.
const COLUMNS = 312;

// Rows of a column as the hub sends them, the lowest frequency first.
const ROWS = 48;

// Decibels for each step of a byte; 0 is -100 dBFS.
const DB_A_STEP = 100 / 255;

// Range that the colours cover above the background noise, in steps.
const RANGE = 50 / DB_A_STEP;

// Fraction by which the estimate of the background noise moves with each column. It rises slowly, so that a meow does
// not count as noise.
const FLOOR_RISES = 0.005;
const FLOOR_FALLS = 0.1;

const SAMPLES_A_COLUMN = 1024;

// The colour map "magma" of matplotlib (S. van der Walt and N. Smith, 2015, CC0); the spectrograms of clips use it too.
const STOPS = [
  [0, 0, 4], [24, 15, 62], [69, 16, 119], [114, 31, 129], [159, 47, 127],
  [205, 64, 113], [241, 96, 93], [253, 149, 103], [254, 201, 141], [252, 253, 191],
];

const COLOURS = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (STOPS.length - 1);
  const lower = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[lower].map((from, n) => from + (STOPS[lower + 1][n] - from) * (place - lower));
});

const LOWEST_HZ = 60;
const HIGHEST_HZ = 8_000;
const mel = (hz) => 2_595 * Math.log10(1 + hz / 700);
const heightOf = (hz) => (mel(hz) - mel(LOWEST_HZ)) / (mel(HIGHEST_HZ) - mel(LOWEST_HZ));

export function spectrum() {
  const canvas = el('canvas', { width: COLUMNS, height: ROWS, role: 'img', 'aria-label': 'Spectrogram of the last 20 seconds' });
  const ticks = [[500, '0.5'], [1_000, '1'], [2_000, '2'], [4_000, '4 kHz']].map(([hz, text]) => {
    const tick = el('span', { class: 'tick', 'aria-hidden': 'true' }, text);
    tick.style.bottom = `${heightOf(hz) * 100}%`;
    return tick;
  });
  const element = el('div', { class: 'spectrum' }, canvas, ticks);
  const context = canvas.getContext('2d', { alpha: false });
  const still = lessMotion();
  let floor = null;
  let place = 0;
  let boot = null;
  let next = null;

  // Draws new columns on the right, or over the oldest ones for viewers who prefer reduced motion.
  function draw(image, columns) {
    if (still) {
      context.putImageData(image, place, 0);
      place = (place + columns) % COLUMNS;
      context.fillStyle = '#fff';
      context.fillRect(place, 0, 1, ROWS);
      return;
    }
    context.drawImage(canvas, -columns, 0);
    context.putImageData(image, COLUMNS - columns, 0);
  }

  // Draws lost audio as black columns.
  function skip(samples) {
    const columns = Math.min(COLUMNS, Math.round(samples / SAMPLES_A_COLUMN));
    if (columns > 0) draw(blank(context, columns), columns);
  }

  return {
    element,
    push({ boot_id, first_sample, columns: text }) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const columns = Math.min(COLUMNS, Math.floor(bytes.length / ROWS));
      if (columns === 0) return;
      if (boot_id === boot && first_sample > next) skip(first_sample - next);
      boot = boot_id;
      next = first_sample + columns * SAMPLES_A_COLUMN;
      const image = context.createImageData(columns, ROWS);
      for (let x = 0; x < columns; x += 1) {
        const levels = bytes.subarray(x * ROWS, (x + 1) * ROWS);
        const noise = [...levels].sort((a, b) => a - b)[ROWS >> 1];
        floor = floor === null ? noise : floor + (noise - floor) * (noise > floor ? FLOOR_RISES : FLOOR_FALLS);
        for (let row = 0; row < ROWS; row += 1) {
          const level = Math.max(0, Math.min(255, ((levels[row] - floor) / RANGE) * 255));
          image.data.set([...COLOURS[Math.round(level)], 255], ((ROWS - 1 - row) * columns + x) * 4);
        }
      }
      draw(image, columns);
    },
    close() {
      canvas.width = 0;
    },
  };
}

function blank(context, columns) {
  const image = context.createImageData(columns, ROWS);
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  return image;
}
