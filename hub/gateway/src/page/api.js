// Calls the hub's API. Every failure is an `ApiError` with the hub's own message.

// Longer than every deadline of the hub, so that the hub's own error arrives first.
const DEADLINE_MS = 20_000;

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// Whether the log-in or the set-up form is shown.
export function isLogIn() {
  return /^#\/(login|setup\/)/.test(location.hash);
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
  // The log-in shows what is wrong itself. Elsewhere, the page is loaded again and shows the log-in.
  if (answer.status === 401 && !path.endsWith('/session') && !isLogIn()) {
    location.hash = '#/login';
    location.reload();
  }
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

// A request that changes something, with a body of JSON or without.
export function send(method, path, body) {
  const json = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  return ask(path, { method, ...(body && json) });
}

export async function label(id, word) {
  return (await send('PUT', `api/v1/events/${id}/label`, { label: word })).json();
}

export async function remove(id) {
  await send('DELETE', `api/v1/events/${id}`);
}

// Starts an analysis and returns the path of its result.
export async function analyze(cat) {
  const answer = await ask(`analyze/${encodeURIComponent(cat)}`);
  return answer.headers.get('location')?.replace(/^\//, '');
}

// Begins a backup.
export async function backUp() {
  await send('POST', 'api/v1/backup');
}

// Admits or refuses a node that waits.
export async function admit(key) {
  await send('POST', `api/v1/nodes/waiting/${encodeURIComponent(key)}/admit`);
}

export async function refuse(key) {
  await send('POST', `api/v1/nodes/waiting/${encodeURIComponent(key)}/refuse`);
}

// Pairs with the node at this host, which shows this code.
export async function pair(code, host) {
  await send('POST', 'api/v1/nodes/pair', { code, host });
}

// Sends an undelivered notification again.
export async function retry(id) {
  await send('POST', `api/v1/notices/${id}/retry`);
}
