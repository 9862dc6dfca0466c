// Calls the hub's API. Every failure is an `ApiError` with the hub's own message.

// Longer than every deadline of the hub, so that the hub's own error arrives first.
const DEADLINE_MS = 20_000;

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// For requests that change something, the hub compares the header Origin with its own address. The page's
// Referrer-Policy is `no-referrer`, so a form, or mode 'same-origin', would send `Origin: null`.
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(DEADLINE_MS) });
  } catch {
    throw new ApiError('unreachable', 'the hub is not responding');
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new ApiError(said?.error?.code ?? 'unknown', said?.error?.message ?? `the hub answered with status ${answer.status}`);
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

// Starts an analysis and returns the path of its result.
export async function analyze(cat) {
  const answer = await ask(`analyze/${encodeURIComponent(cat)}`);
  return answer.headers.get('location')?.replace(/^\//, '');
}

// Begins a backup.
export async function backUp() {
  await ask('api/v1/backup', { method: 'POST' });
}

// Admits or refuses a node that waits.
export async function admit(key) {
  await ask(`api/v1/nodes/waiting/${encodeURIComponent(key)}/admit`, { method: 'POST' });
}

export async function refuse(key) {
  await ask(`api/v1/nodes/waiting/${encodeURIComponent(key)}/refuse`, { method: 'POST' });
}

// Sends an undelivered notification again.
export async function retry(id) {
  await ask(`api/v1/notices/${id}/retry`, { method: 'POST' });
}
