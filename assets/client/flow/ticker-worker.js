// Runs in a worker, whose timers go on at full speed while the page is hidden.

const running = new Map();

onmessage = ({ data: { id, every, after } }) => {
  clearInterval(running.get(id));
  running.delete(id);
  if (every) running.set(id, setInterval(() => postMessage(id), every));
  if (after !== undefined) setTimeout(() => postMessage(id), after);
};
