// Pictures as prompts and styles: dropped or pasted; their controls come after the first picture.

import { isStyle } from "../pure/media.js";
import { offer } from "./dom.js";

export function picture(host, studio) {
  let takes = {}; // what the model takes: { picture, style }
  let controls = null;
  const load = async () => {
    const loaded = await studio.loadAfterwards();
    if (loaded && takes.picture) controls ??= loaded.condition(host, studio);
    return controls;
  };
  incoming(host, studio, async (file, second) => (await load())?.take(file, second), () => takes);
  studio.on("welcome", ({ model }) => {
    const { conditions = [] } = model ?? {};
    takes = { picture: conditions.includes("picture"), style: conditions.includes("style") };
    offer("rill-conditions", conditions.includes("control"));
    offer("rill-style", takes.style);
    for (const item of [host, host.closest(".block")]) item?.classList.toggle("rill-absent", !takes.picture);
    if (studio.seenPicture) load();
  });
  studio.afterwards.then(load);
}

/** Dropped files and pasted pictures; on the picture itself a file becomes the input (stage.js). `takes()`: { picture, style }. */
function incoming(host, studio, take, takes) {
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
    put(files[0]);
  });
  async function put(file, second) {
    if (await studio.exchange((files) => files.open(file))) return null; // in the order of their coming
    if (/^(video|audio)\//.test(file.type)) return studio.choose("clip", { file });
    if (isStyle(file) && !studio.welcome) await new Promise((resolve) => studio.addEventListener("welcome", resolve, { once: true }));
    if (takes().picture) return take(file, second);
    return isStyle(file) ? studio.notice(`${file.name} is a style, and this model takes none.`, true) : studio.choose("picture", { file });
  }
}
