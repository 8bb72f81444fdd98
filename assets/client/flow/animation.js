// Animated pictures, where the browser has an ImageDecoder.

import { NEUTRAL, pictureType } from "../pure/media.js";

/** The context of an emptied canvas. */
export function onNeutral(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = NEUTRAL;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

const typeOf = async (file) => pictureType(new Uint8Array(await file.slice(0, 16).arrayBuffer()));

/** "picture" or "clip", by content. */
export async function kindOf(file) {
  return file.type === "image/svg+xml" || (await typeOf(file)) ? "picture" : "clip";
}

/** The frames of an animated picture, else null. */
export async function animation(file) {
  const type = await typeOf(file);
  if (!type || !globalThis.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) return null;
  const decoder = new ImageDecoder({ type, data: await file.arrayBuffer() });
  const track = await decoder.tracks.ready.then(() => decoder.tracks.selectedTrack, () => null);
  if (!track?.animated) return decoder.close() ?? null;
  let [index, due, busy] = [0, 0, false];
  return {
    close: () => decoder.close(),
    /** Draws the next frame once it is due, in a loop. */
    async advance(now, draw) {
      if (busy || now < due) return;
      busy = true;
      const { image } = await decoder.decode({ frameIndex: index++ % track.frameCount }).catch(() => ({}));
      if (image) draw(image);
      due = Math.max(due, now - 100) + (image?.duration ?? 100_000) / 1000;
      image?.close();
      busy = false;
    },
  };
}
