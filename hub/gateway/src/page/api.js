// The hub's API. Every failure is an `ApiError` with the hub's own sentence.

// Longer than any deadline of the hub.
const DEADLINE_MS = 20_000;

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// Requests that change something carry the page's Origin, which the hub asks for: not so with mode 'same-origin' or a form.
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(DEADLINE_MS) });
  } catch {
    throw new ApiError('unreachable', 'the hub does not answer');
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new ApiError(said?.error?.code ?? 'unknown', said?.error?.message ?? `the hub answered ${answer.status}`);
}

export async function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value != null && value !== '');
  const query = new URLSearchParams(given).toString();
  return (await ask(query ? `${path}?${query}` : path)).json();
}

export async function bytes(path) {
  return (await ask(path)).arrayBuffer();
}

export async function label(id, word) {
  const options = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ label: word }) };
  return (await ask(`api/v1/events/${id}/label`, options)).json();
}

export async function remove(id) {
  await ask(`api/v1/events/${id}`, { method: 'DELETE' });
}

// Starts an analysis, and says where it will be.
export async function analyze(cat) {
  const answer = await ask(`analyze/${encodeURIComponent(cat)}`);
  return answer.headers.get('location')?.replace(/^\//, '');
}

// Tries to tell an owner again what could not be told.
export async function retry(notice) {
  await ask(`api/v1/notices/${notice}/retry`, { method: 'POST' });
}
