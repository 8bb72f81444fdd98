// Timers that a hidden page keeps: browsers slow a page's own to one a second or a minute.

let worker = null;
let ids = 0;
const calls = new Map();

function post(message, call) {
  if (!worker) {
    worker = new Worker(new URL("./ticker-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => calls.get(data)?.();
  }
  if (call) calls.set(message.id, call);
  worker.postMessage(message);
  return message.id;
}

/** Calls `call` every `ms`; returns what ends it. */
export function ticking(ms, call) {
  const id = post({ id: ++ids, every: ms }, call);
  return () => {
    calls.delete(id);
    post({ id });
  };
}

export function later(ms, call) {
  if (!document.hidden) return setTimeout(call, ms);
  const id = ++ids;
  return post({ id, after: ms }, () => {
    calls.delete(id);
    call();
  });
}
