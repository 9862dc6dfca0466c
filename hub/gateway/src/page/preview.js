// What another `min_score` of a node would have changed last week.

import * as words from './words.js';
import { get } from './api.js';
import { el, problem } from './dom.js';

// Where the slider begins if the node has no `min_score`.
const START = 0.8;

export function preview(node, present) {
  const said = el('output', {}, '…');
  const slider = el('input', {
    type: 'range', min: 0, max: 1, step: 0.05, value: present ?? START, 'aria-label': 'min_score to try', oninput: ask,
  });
  let asked = 0;

  async function ask() {
    asked += 1;
    const turn = asked;
    try {
      const answer = await get('api/v1/nodes/score-preview', { node, min_score: slider.value });
      if (turn === asked) said.replaceChildren(sentence(answer));
    } catch (error) {
      if (turn === asked) said.replaceChildren(problem(error));
    }
  }

  ask();
  return el('div', {}, slider, ' ', said);
}

function sentence({ min_score: least, min_score_at_present: present, events, events_at_present: before, cats_missed: missed }) {
  return [
    `With ${least} you would have had ${words.count(events, 'event')} last week instead of ${words.number(before)}.`,
    missed > 0 && ` You would have missed ${words.count(missed, 'event')} that you labelled as a cat.`,
    ` Set it as min_score of this node in hub.toml${present === null ? '' : `, where it is ${present}`}.`,
  ].filter(Boolean).join('');
}
