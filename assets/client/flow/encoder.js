// Pictures to messages: a source's picture becomes a JPEG in a worker, one at a time.

import { placed } from "../pure/media.js";
import { FORMAT, encodeFrame } from "../wire/protocol.js";

const QUALITY = 0.85;

export class Encoder {
  constructor() {
    this.layer = null; // { canvas, version, empty }
    this.sent = null;
    this.worker = new Worker(new URL("./encoder-worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.worker.onmessage = ({ data }) => {
      this.waiting.get(data.id)?.(data.message);
      this.waiting.delete(data.id);
    };
    this.worker.onerror = () => {
      for (const resolve of this.waiting.values()) resolve(null); // the next picture tries again
      this.waiting.clear();
    };
  }

  get busy() {
    return this.waiting.size > 0;
  }

  /** The whole message for one frame, or null if the picture could not be taken. */
  async encode(id, capturedAt, source, { width, height, mirror, fit = false }) {
    const element = source?.element;
    if (!element) return encodeFrame(id, capturedAt, FORMAT.none, null);
    const { crop, to } = placed(source.width, source.height, width, height, fit);
    const done = new Promise((resolve) => this.waiting.set(id, resolve));
    try {
      await this.#sendLayer();
      const { picture, part } = await grab(element, crop, to);
      const job = { id, capturedAt, picture, crop: part, to, width, height, mirror, quality: QUALITY };
      this.worker.postMessage(job, [picture]);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.waiting.get(id)?.(null); // no picture at this moment: an input that is just going away
      this.waiting.delete(id);
    }
    return done;
  }

  async #sendLayer() {
    const { layer } = this;
    if (!layer || layer.version === this.sent) return;
    const { version } = layer;
    const overlay = layer.empty ? null : await createImageBitmap(layer.canvas);
    this.sent = version;
    this.worker.postMessage({ overlay }, overlay ? [overlay] : []);
  }
}

/** A transferable of the element's picture. */
async function grab(element, crop, { width, height }) {
  if (element instanceof HTMLVideoElement && "VideoFrame" in globalThis) {
    const picture = new VideoFrame(element);
    if (picture.displayWidth === element.videoWidth && picture.displayHeight === element.videoHeight) return { picture, part: crop };
    picture.close(); // a turned phone clip: VideoFrame may forget the rotation
  }
  const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" };
  const picture = await createImageBitmap(element, crop.x, crop.y, crop.width, crop.height, options);
  return { picture, part: { x: 0, y: 0, width, height } };
}
