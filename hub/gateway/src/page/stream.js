// What is going on, from the hub's event stream. One connection, and none while the page is hidden: a browser has six to a
// host, and each tab would hold one.

const KINDS = ['event', 'labelled', 'deleted', 'gap', 'level', 'state', 'spectrum'];

// First and longest wait after the hub refused the stream. A broken connection is the browser's to mend.
const AGAIN_MS = [1_000, 30_000];

// watch({ news(kind, data), open(), lost(why) }): `open` after every connection, for then the page must look again at what it
// may have missed.
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
    // Some were dropped because this page was too slow.
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
  // The browser would call it an error.
  addEventListener('pagehide', () => source?.close());
  addEventListener('pageshow', (shown) => shown.persisted && connect());
  connect();
}
