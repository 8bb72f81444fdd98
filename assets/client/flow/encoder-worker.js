// A worker: draws one picture in the model's size and encodes it (in a page Chromium encodes canvases in idle time only).

import { NEUTRAL } from "../pure/media.js";
import { FORMAT, encodeFrame } from "../wire/protocol.js";

let canvas = null;
let context = null;
let overlay = null; // painted over every picture, not mirrored with the camera

function surface(width, height) {
  if (canvas?.width !== width || canvas?.height !== height) {
    canvas = new OffscreenCanvas(width, height);
    context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  }
  return context;
}

async function encode({ id, capturedAt, picture, crop, to, width, height, mirror, quality }) {
  const drawing = surface(width, height);
  drawing.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
  drawing.clearRect(0, 0, width, height); // never the frame before
  drawing.fillStyle = NEUTRAL;
  drawing.fillRect(to.x, to.y, to.width, to.height);
  drawing.drawImage(picture, crop.x, crop.y, crop.width, crop.height, to.x, to.y, to.width, to.height);
  picture.close();
  drawing.setTransform(1, 0, 0, 1, 0, 0);
  if (overlay) drawing.drawImage(overlay, 0, 0, width, height);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
  return encodeFrame(id, capturedAt, FORMAT.jpeg, await blob.arrayBuffer());
}

onmessage = async ({ data }) => {
  if ("overlay" in data) {
    overlay?.close();
    overlay = data.overlay;
    return;
  }
  let message = null;
  try {
    message = await encode(data);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // no pixels: the input is just changing
  }
  postMessage({ id: data.id, message }, message ? [message] : []);
};
