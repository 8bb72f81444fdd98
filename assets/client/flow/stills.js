// Inputs without a video: pictures, paper, the prompt alone, and what a camera has left. They come on their first use, at the latest after
// the first picture.

import { NEUTRAL, pictureType } from "../pure/media.js";
import { STILL_INTERVAL } from "./sources.js";
import { ticking } from "./ticker.js";

const PAPER = 512; // pixels

class TimedSource {
  constructor(kind, label, element, width, height) {
    Object.assign(this, { kind, label, element, width, height, onpicture: null, onend: null });
  }

  async begin() {
    this.end = ticking(STILL_INTERVAL, () => {
      this.frames?.advance(performance.now(), this.draw);
      this.onpicture?.(performance.now());
    });
    return this;
  }

  stop() {
    this.end?.();
    this.frames?.close();
    this.element?.remove();
  }
}

/** The last picture of a camera or screen that has ended, as a source of the same kind. */
export function held({ kind, label, element, width, height, deviceId, away }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d", { alpha: false }).drawImage(element, 0, 0, width, height);
  return Object.assign(new TimedSource(kind, label, canvas, width, height), { held: true, deviceId, away });
}

/** By kind. Each resolves with a source, or throws what the browser threw. */
export const openers = {
  async picture({ file }) {
    const type = await typeOf(file);
    const [bitmap, frames] = await Promise.all([createImageBitmap(file), animation(file, type)]);
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, 1024 / Math.min(bitmap.width, bitmap.height));
    canvas.width = Math.round(bitmap.width * scale);
    canvas.height = Math.round(bitmap.height * scale);
    const draw = (picture) => onNeutral(canvas).drawImage(picture, 0, 0, canvas.width, canvas.height);
    draw(bitmap);
    bitmap.close();
    return Object.assign(new TimedSource("picture", file.name, canvas, canvas.width, canvas.height), { frames, draw }).begin();
  },
  async paint({ paper = "#f4f1ea" } = {}) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = PAPER;
    const source = new TimedSource("paint", "Canvas", canvas, PAPER, PAPER);
    source.fill = (colour) => {
      source.paper = colour;
      const context = canvas.getContext("2d", { alpha: false });
      context.fillStyle = colour;
      context.fillRect(0, 0, PAPER, PAPER);
    };
    source.fill(paper);
    return source.begin();
  },
  async prompt() {
    return new TimedSource("prompt", "Prompt only", null, 0, 0).begin();
  },
};

const typeOf = async (file) => pictureType(new Uint8Array(await file.slice(0, 16).arrayBuffer()));

/** "picture" or "clip", by content. */
export const fileKind = async (file) => (file.type === "image/svg+xml" || (await typeOf(file)) ? "picture" : "clip");

/** The context of an emptied canvas. */
export function onNeutral(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = NEUTRAL;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** The frames of an animated picture, where the browser has an ImageDecoder, else null. `type`: its media type, or null. */
async function animation(file, type) {
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
