// Files that are dropped on the page and pictures that are pasted. On the picture itself a file becomes the input (stage.js).

import { isStyle } from "../pure/media.js";

/** `take(file, second)` uses a file as picture prompt; `takes()` tells what the model takes: { picture, style }. */
export function incoming(host, studio, take, takes) {
  let timer = null;
  const mark = (over) => {
    clearTimeout(timer);
    host.dataset.over = String(over);
    if (over) timer = setTimeout(() => mark(false), 300); // dragover repeats; nothing tells that a file has left the window
  };
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return; // text goes where it is dropped
    event.preventDefault();
    mark(takes().picture);
  });
  addEventListener("drop", (event) => {
    const file = event.dataTransfer?.files[0];
    mark(false);
    if (!file || (event.target.closest?.(".rill-frame") && !isStyle(file))) return;
    event.preventDefault();
    event.stopPropagation();
    put(file, Boolean(event.target.closest?.("[data-second='true']")));
  }, true);
  addEventListener("paste", (event) => {
    const { files = [], types = [] } = event.clipboardData ?? {};
    const typing = event.target.matches?.("input, textarea") && types.includes("text/plain"); // a text that has a picture beside it
    if (!files.length || typing) return;
    event.preventDefault();
    take(files[0]);
  });
  async function put(file, second) {
    if (isStyle(file)) return take(file, second);
    if (await studio.exchange((files) => files.open(file))) return null;
    if (/^(video|audio)\//.test(file.type)) return studio.choose("clip", { file });
    return takes().picture ? take(file, second) : studio.choose("picture", { file });
  }
}
