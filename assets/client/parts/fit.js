// How an input of another shape comes into the picture.

import { choice } from "./dom.js";

export function fit(host, studio) {
  const { line, select } = choice("Input", () => studio.setFit(select.value), [["crop", "Crop to fill"], ["fit", "Fit, black at the sides"]]);
  select.value = studio.pump.fit ? "fit" : "crop";
  host.append(line);
}
