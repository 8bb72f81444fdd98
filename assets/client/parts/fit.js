// How an input of another shape comes into the picture: filled and cropped, or whole with black at its sides.

import { make } from "./dom.js";
import { kept, keep } from "../pure/storage.js";

const KEY = "rill.fit";

export function fit(host, studio) {
  const choose = (value) => {
    studio.pump.fit = value === "fit";
    document.body.dataset.fit = value;
  };
  const select = make("select", { className: "rill-select", on: { change: () => (choose(select.value), keep(KEY, select.value)) } },
    ...[["crop", "Crop to fill"], ["fit", "Fit, black at the sides"]].map(([value, textContent]) => make("option", { value, textContent })));
  host.append(make("label", { className: "rill-choice" }, make("span", { textContent: "Input" }), select));
  select.value = kept(KEY) === "fit" ? "fit" : "crop";
  choose(select.value);
}
