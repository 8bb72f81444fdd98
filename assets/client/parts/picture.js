// Pictures as prompts and styles: what is dropped or pasted, and the place of their controls, which come after the first picture.

import { incoming } from "./incoming.js";

export function picture(host, studio) {
  let takes = {}; // what the model takes: { picture, style }
  let controls = null;
  const load = async () => {
    const loaded = await studio.loadAfterwards();
    if (loaded && takes.picture) controls ??= loaded.condition(host, studio);
    return controls;
  };
  const show = (id, shown) => document.getElementById(id)?.classList.toggle("rill-absent", !shown);
  incoming(host, studio, async (file, second) => (await load())?.take(file, second), () => takes);
  studio.on("welcome", ({ model }) => {
    const { conditions = [] } = model ?? {};
    takes = { picture: conditions.includes("picture"), style: conditions.includes("style") };
    show("rill-conditions", conditions.includes("control"));
    show("rill-style", takes.style);
    for (const item of [host, host.closest(".block")]) item?.classList.toggle("rill-absent", !takes.picture);
    if (studio.seenPicture) load();
  });
  studio.afterwards.then(load);
}
