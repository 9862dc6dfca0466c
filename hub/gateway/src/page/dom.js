// Elements. Text is always text: names of cats come from the network, and nothing here reads markup.

// el('a', { class: 'x', href: '#/', onclick: f }, 'text', child): an element. `null`, `undefined` and `false` leave an
// attribute or a child out; `true` gives an attribute without a value.
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

// Sets text only where it changes, so that a selection and a screen reader's place survive.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Says something to whoever cannot see the page change.
export function say(text) {
  document.getElementById('say').textContent = text;
}

// An error, as a sentence where it happened.
export function problem(error) {
  return el('p', { class: 'problem', role: 'alert' }, sentence(error));
}

// What an error says, with a capital letter and a full stop.
export function sentence(error) {
  const text = String(error?.message ?? error);
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

// Whether the viewer asked for less motion.
export function lessMotion() {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}
