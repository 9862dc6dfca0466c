// Receives live updates from the hub's event stream. A hidden page closes its connection: a browser opens at most six
// connections to a host, and every tab would keep one busy.

const KINDS = ['event', 'linked', 'labelled', 'deleted', 'reevaluated', 'redated', 'gap', 'level', 'state', 'spectrum'];

// First and longest wait before connecting again after the hub refused the stream. When a connection breaks, the
// browser reconnects by itself.
const AGAIN_MS = [1_000, 30_000];

// watch({ news(kind, data), open(), lost() }): `open` is called after every connection, because the page must then
// fetch what it may have missed.
export function watch(viewer) {
  let source = null;
  let wait = AGAIN_MS[0];
  let retry = 0;

  function connect() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(`api/v1/stream?kinds=${KINDS.join(',')}`);
    source.addEventListener('open', () => {
      wait = AGAIN_MS[0];
      viewer.open();
    });
    source.addEventListener('error', () => {
      viewer.lost();
      if (source.readyState !== EventSource.CLOSED) return;
      retry = setTimeout(connect, wait);
      wait = Math.min(wait * 2, AGAIN_MS[1]);
    });
    // The hub dropped updates because this page was too slow.
    source.addEventListener('lagged', () => viewer.open());
    for (const kind of KINDS) {
      source.addEventListener(kind, (message) => viewer.news(kind, JSON.parse(message.data)));
    }
  }

  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) connect();
    else {
      clearTimeout(retry);
      source?.close();
    }
  });
  // Otherwise the browser reports an error when the page is left.
  addEventListener('pagehide', () => source?.close());
  addEventListener('pageshow', (shown) => shown.persisted && connect());
  connect();
}
