// Conditions beside the words: a picture prompt, and what shows only where the model has a part for it.

import { encodePicture, FORMAT } from "../wire/protocol.js";
import { iconButton, make, write } from "./dom.js";

const SIDE = 448; // pixels; picture encoders see 224 to 336 of the middle

export function picture(host, studio) {
  const files = make("input", { type: "file", accept: "image/*", hidden: true, aria: { label: "Picture prompt" } });
  const seen = make("canvas", { width: SIDE, height: SIDE, className: "rill-prompt", hidden: true, aria: { role: "img", label: "The picture prompt" } });
  const said = make("span", { className: "rill-said" });
  const remove = iconButton("bin", "Remove the picture prompt", () => show(null));
  const button = make("button", { type: "button", className: "rill-plain", textContent: "Choose a picture", on: { click: () => files.click() } });
  host.append(make("div", { className: "rill-sourceline" }, button, seen, remove, said), files);
  remove.hidden = true;
  let jpeg = null;
  let requests = 0;

  const send = () => studio.connection.send(encodePicture(++requests, jpeg ? FORMAT.jpeg : FORMAT.none, jpeg));
  const show = async (file) => {
    if (file) {
      try {
        draw(seen.getContext("2d"), await createImageBitmap(file));
      } catch (error) {
        if (!(error instanceof DOMException)) throw error;
        return write(said, `${file.name} is no picture that this browser reads.`);
      }
    }
    const blob = file && (await new Promise((resolve) => seen.toBlob(resolve, "image/jpeg", 0.95)));
    jpeg = blob && (await blob.arrayBuffer());
    seen.hidden = remove.hidden = !jpeg;
    write(said, "");
    return send();
  };
  files.onchange = () => {
    if (files.files[0]) show(files.files[0]);
    files.value = "";
  };

  studio.addEventListener("welcome", ({ detail }) => {
    const { conditions = [] } = detail.model ?? {};
    for (const [id, name] of [["rill-control", "control"], ["rill-picture-scale", "picture"], ["rill-style", "style"]]) {
      document.getElementById(id)?.classList.toggle("rill-absent", !conditions.includes(name));
    }
    for (const item of [host, host.closest(".block")]) item?.classList.toggle("rill-absent", !conditions.includes("picture"));
    document.getElementById("rill-conditions")?.classList.toggle("rill-absent", !conditions.some((name) => name !== "style"));
    if (jpeg) send();
  });
}

/** The middle of a picture, filling the canvas. */
function draw(context, bitmap) {
  const side = Math.min(bitmap.width, bitmap.height);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  bitmap.close();
}
