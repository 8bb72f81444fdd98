// A file to a picture prompt: the middle of a picture as JPEG, or the file of a style as it is.

import { FORMAT } from "../wire/protocol.js";
import { onNeutral } from "./stills.js";
import { decode } from "./view.js";
import { isStyle } from "../pure/media.js";
import { LARGEST, readStyle } from "../pure/stylefile.js";

export const SIDE = 448; // pixels; picture encoders see 224 to 336 of the middle

/** { item: { label: of the file, name, format, bytes, canvas, file } } or { wrong: words }. `styles`: whether files of styles are taken. `file` is true for those. */
export async function readPrompt(file, styles) {
  const allowed = `Allowed are pictures (JPEG, PNG, WebP)${styles ? " and styles (.safetensors)" : ""}.`;
  const wrong = (why) => ({ wrong: `${file.name} ${why}. ${allowed}` });
  if (isStyle(file)) {
    if (!styles) return wrong("is the file of a style, and this model has no painter");
    if (file.size > LARGEST) return wrong(`is too large for a style: ${Math.ceil(file.size / 1024)} of ${LARGEST / 1024} kB`);
    const bytes = new Uint8Array(await file.arrayBuffer());
    const style = readStyle(bytes);
    const canvas = style && (await middle(new Blob([style.tile]), 144));
    return style ? { item: { label: file.name, name: style.name, format: FORMAT.style, bytes, canvas: canvas ?? new OffscreenCanvas(1, 1), file: true, id: file.id } } : wrong("is no style of Rill");
  }
  const canvas = await middle(file, SIDE);
  if (!canvas) return wrong("is no picture that this browser reads");
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  return { item: { label: file.name, name: file.name.replace(/\.\w+$/, ""), format: FORMAT.jpeg, bytes: await blob.arrayBuffer(), canvas, file: false } };
}

/** The middle of a picture, filling a square canvas; null for what is no picture. */
async function middle(blob, size) {
  const bitmap = await decode(blob);
  if (!bitmap) return null;
  const canvas = new OffscreenCanvas(size, size);
  const side = Math.min(bitmap.width, bitmap.height);
  const context = onNeutral(canvas);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, size, size);
  bitmap.close();
  return canvas;
}
