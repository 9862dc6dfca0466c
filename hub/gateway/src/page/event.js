// One event: its clip, its measurements, and the owner's label.

import * as api from './api.js';
import * as words from './words.js';
import { el, problem, say } from './dom.js';
import { isAside, offerUndo, relative, tag } from './row.js';
import { waveform } from './wave.js';

export function show(main, { id }) {
  const heading = el('h1', {}, `Event ${id}`);
  const body = el('div');
  const trouble = el('div');
  main.append(el('p', { class: 'back' }, el('a', { href: '#/events' }, '← All events')), heading, trouble, body);
  let closed = false;
  let wave = null;
  let said = null;
  let heard = null;
  // What a label did to other events. It stays when the label is drawn again.
  const others = el('div', { role: 'status' });
  // Outside `said`, because what is drawn again loses the focus.
  const which = el('div');

  // Names of the owner's own labels.
  let own = [];

  Promise.all([api.get(`api/v1/events/${id}`), api.get('api/v1/own-labels')]).then(([event, labels]) => {
    own = labels.own_labels.map(({ name }) => name);
    if (!closed) draw(event);
  }).catch((error) => {
    if (!closed) trouble.append(problem(error));
  });

  function draw(event) {
    wave?.close();
    wave = event.clip && waveform(event);
    said = el('div');
    heard = judged(event);
    drawSaid(event);
    body.replaceChildren(
      el('p', { class: 'faint' }, el('time', { datetime: event.started_at }, words.longMoment(event.started_at)),
        event.clock === 'hub' && ' (by the hub’s clock, because the node did not know the time)'),
      event.clip ? sound(event, wave) : el('p', { class: 'empty' }, `No recording: ${words.noClip[event.no_clip_reason] ?? event.no_clip_reason}.`),
      el('div', { class: 'columns' }, el('div', { class: 'card' }, said, which), heard, measured(event)),
      el('p', { class: 'actions for-owner' }, el('button', { type: 'button', class: 'danger', onclick: () => askToDelete(event) }, 'Delete event')));
  }

  // Draws the heading and the part that a label changes.
  function drawSaid(event) {
    heading.replaceChildren(words.catOf(event), ' ', tag(event));
    document.title = `${words.catOf(event)}, ${words.saidOf(event)} · Meowlink`;
    const held = said.contains(document.activeElement) && document.activeElement.dataset.word;
    said.replaceChildren(...whatWasIt(event).filter(Boolean));
    if (held) said.querySelector(`[data-word="${CSS.escape(held)}"]`)?.focus();
    import('./cat.js').then(({ fill }) => fill(which, event, drawSaid), () => {});
  }

  function whatWasIt(event) {
    const failed = el('div');
    async function put(word) {
      failed.replaceChildren();
      try {
        const labelled = await api.label(event.id, word);
        drawSaid(labelled);
        others.replaceChildren();
        if (labelled.undo) offerUndo(others, `${words.count(labelled.changed, 'other event')} changed`, [labelled.undo]);
        say(word ? `Labelled: ${words.saidOf(labelled)}` : 'Label removed');
      } catch (error) {
        failed.replaceChildren(problem(error));
      }
    }
    const choices = [...Object.entries(words.contexts).filter(([word]) => word !== 'uncertain'), ...own.map((name) => [name, name])];
    return [
      el('h2', { id: 'what', class: 'for-owner' }, 'What was it?'),
      el('div', { class: 'choices for-owner', role: 'group', 'aria-labelledby': 'what' },
        choices.map(([word, text]) => el('button', {
          type: 'button', class: `choice ${own.includes(word) ? 'uncertain' : word}`, 'data-word': word, 'aria-pressed': String(event.label === word),
          onclick: () => put(event.label === word ? null : word),
        }, text))),
      el('p', { class: 'faint for-owner' }, event.label
        ? `You labelled this event ${words.atMoment(event.labelled_at)}. Press the label again to remove it.`
        : 'Your label replaces the hub’s guess, and the hub learns from it.'),
      isAside(event) && el('p', { class: 'faint' }, 'Not announced: ', event.like_false_alarms.length > 0
        ? 'it sounds like ones that you marked “Not a cat”. ' : `its score is below ${event.below_min_score}, the min_score of its node.`,
        event.like_false_alarms.slice(0, 5).map((like) => [el('a', { href: `#/events/${like}` }, `Event ${like}`), ' '])),
      el('p', { class: 'for-owner' }, el('a', { href: '#/labels' }, 'Your own labels')),
      others, failed,
    ];
  }

  async function drawAgain() {
    const event = await api.get(`api/v1/events/${id}`).catch(() => null);
    if (!event || closed) return;
    drawSaid(event);
    const fresh = judged(event);
    heard.replaceWith(fresh);
    heard = fresh;
  }

  function askToDelete(event) {
    const failed = el('div');
    const dialog = el('dialog', { 'aria-labelledby': 'sure', onclose: () => dialog.remove() },
      el('h2', { id: 'sure' }, 'Delete this event?'),
      el('p', {}, 'The event and its recording will be deleted permanently.'),
      failed,
      el('div', { class: 'actions' },
        el('button', { type: 'button', class: 'danger', onclick: remove }, 'Delete'),
        el('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Cancel')));
    async function remove() {
      try {
        await api.remove(event.id);
        dialog.close();
        say('Event deleted');
        location.hash = '#/events';
      } catch (error) {
        failed.replaceChildren(problem(error));
      }
    }
    main.append(dialog);
    dialog.showModal();
  }

  return {
    news(kind, data) {
      if (kind === 'reevaluated' && said) drawAgain();
      if (String(data.id) !== id) return;
      if (kind === 'labelled' && said) drawSaid(data);
      else if (kind === 'deleted' && !closed) {
        wave?.close();
        body.replaceChildren(el('p', { class: 'empty' }, 'This event was deleted.'));
      }
    },
    close() {
      closed = true;
      wave?.close();
    },
  };
}

function sound(event, wave) {
  const { clip } = event;
  // As many pixels as the screen has, within the sizes that the hub draws.
  const room = Math.min(1_060, document.documentElement.clientWidth - 32);
  const width = Math.round(Math.min(2_000, Math.max(640, room * Math.min(2, devicePixelRatio))));
  const height = Math.round(width * (room < 600 ? 0.55 : 0.36));
  return el('section', { class: 'sound', 'aria-label': 'Recording' },
    wave.element,
    wave.audio,
    el('figure', {},
      el('img', {
        class: 'spectrogram', width, height, src: `${relative(clip.spectrogram_url)}?width=${width}&height=${height}`,
        alt: `Spectrogram of ${words.length(clip.duration_s)}: time from left to right, 0 to 8 kHz from bottom to top. A bar below marks the event.`,
      })),
    el('p', { class: 'faint' }, el('a', { href: relative(clip.url), download: `event-${event.id}.wav` }, 'Download clip'),
      ` (${words.length(clip.duration_s)}, ${words.number(clip.bytes / 1000)} kB)`));
}

function judged(event) {
  const rows = Object.entries(event.context.probabilities).map(([word, part]) => {
    const bar = el('span', { class: `bar ${word}` });
    bar.style.transform = `scaleX(${part})`;
    return el('tr', {}, el('th', { scope: 'row' }, words.contexts[word]),
      el('td', { class: 'track' }, bar), el('td', { class: 'value' }, words.share(part)));
  });
  return el('section', { class: 'card', 'aria-labelledby': 'judged' },
    el('h2', { id: 'judged' }, 'What the hub heard'),
    el('table', { class: 'probabilities' }, el('tbody', {}, rows)),
    el('p', {}, `Cat score: ${words.share(event.score)}. Context: ${words.contexts[event.context.label]}.`),
    event.suggested_label && el('p', {}, `It sounds like your label “${event.suggested_label}” (${words.share(event.suggested_probability)}).`),
    event.first_context && el('p', { class: 'faint' }, `Its first answer was: ${event.first_suggested_label ?? words.contexts[event.first_context.label]}.`),
    event.context.model === 'household' && el('p', { class: 'faint' },
      `Based on ${words.number(event.context.labels)} of your labels.`));
}

function measured(event) {
  const m = event.measurements;
  const hertz = (value) => `${words.number(value)} Hz`;
  const rows = [
    ['Kind', words.kinds[event.kind] ?? event.kind ?? 'Not classified'],
    ['Duration', words.length(event.duration_s)],
    ['Pitch', m.pitch_median_hz ? `${hertz(m.pitch_median_hz)} (${words.number(m.pitch_min_hz)} to ${hertz(m.pitch_max_hz)})` : 'Not found'],
    ['Voiced', words.share(m.voiced_fraction)],
    ['Peak level', `${words.number(m.peak_dbfs, 1)} dBFS`],
    ['RMS level', `${words.number(m.rms_dbfs, 1)} dBFS`],
    ['Above background', `${words.number(m.snr_db, 1)} dB`],
    ['Spectral centroid', hertz(m.spectral_centroid_hz)],
    ['Spectral flatness', words.number(m.spectral_flatness, 2)],
    ['Node', event.node],
    ...(event.also_heard_by.length ? [['Also heard by', words.nodes(event.also_heard_by)]] : []),
    ['Samples', `${words.number(event.start_sample)} to ${words.number(event.end_sample)} (boot ${event.boot_id})`],
  ];
  return el('section', { class: 'card', 'aria-labelledby': 'measured' }, el('h2', { id: 'measured' }, 'Measurements'),
    el('dl', { class: 'details' }, rows.map(([term, text]) => el('div', {}, el('dt', {}, term), el('dd', {}, text)))));
}
