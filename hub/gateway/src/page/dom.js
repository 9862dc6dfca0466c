// Creates elements. Text is never parsed as markup: names of cats come from the network.

import { capital } from './words.js';

// el('a', { class: 'x', href: '#/', onclick: f }, 'text', child) creates an element. An attribute or a child that is
// `null`, `undefined` or `false` is left out. An attribute that is `true` is set without a value.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// Sets text only when it changes, so that a selection and the position of a screen reader are kept.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Announces something to screen readers.
export function say(text) {
  document.getElementById('say').textContent = text;
}

// An error message, to be shown where the error happened.
export function problem(error) {
  const kind = error?.code === 'unreachable' ? 'problem unreachable' : 'problem';
  return el('p', { class: kind, role: 'alert' }, sentence(error));
}

// An error as a sentence, with a capital letter and a full stop.
export function sentence(error) {
  const text = String(error?.message ?? error);
  return capital(text) + (/[.!?]$/.test(text) ? '' : '.');
}

// Whether the viewer asked for less motion.
export function lessMotion() {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}
