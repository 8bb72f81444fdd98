// A painted layer: strokes on a transparent canvas with undo; and the strength map that is one.

import { encodeMask } from "../wire/conditions.js";

const UNDO = 20; // strokes

export class Layer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.version = 0;
    this.empty = true;
    this.onchange = null;
    this.past = [];
    this.stroke = null;
    this.canvas.dataset.empty = "true"; // an empty one would be drawn with each picture below it
  }

  resize(width, height) {
    if (this.canvas.width === width && this.canvas.height === height) return;
    const old = this.empty ? null : this.canvas.cloneNode();
    old?.getContext("2d").drawImage(this.canvas, 0, 0);
    Object.assign(this.canvas, { width, height });
    this.past = [];
    if (old) this.context.drawImage(old, 0, 0, width, height);
    this.#changed();
  }

  /** Begins a stroke at x, y (0..1 of the picture); `size` in 0..1 of the width. */
  begin(x, y, { colour, size, erase = false, pressure = 1 }) {
    this.past.push(this.empty ? null : this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.past.length > UNDO) this.past.shift();
    this.stroke = { colour, size, erase, x, y };
    this.move(x, y, pressure);
  }

  move(x, y, pressure = 1) {
    const { stroke, context, canvas } = this;
    if (!stroke) return;
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.strokeStyle = stroke.colour;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Math.max(1, stroke.size * canvas.width * pressure);
    context.beginPath();
    context.moveTo(stroke.x * canvas.width, stroke.y * canvas.height);
    context.lineTo(x * canvas.width, y * canvas.height);
    context.stroke();
    Object.assign(stroke, { x, y });
    this.empty = this.empty && stroke.erase;
    this.#changed();
  }

  end() {
    this.stroke = null;
  }

  undo() {
    if (!this.past.length) return;
    const before = this.past.pop();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (before) this.context.putImageData(before, 0, 0);
    this.empty = before === null;
    this.#changed();
  }

  clear() {
    if (this.empty) return;
    this.past.push(this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.empty = true;
    this.#changed();
  }

  #changed() {
    this.version += 1;
    this.canvas.dataset.empty = String(this.empty);
    this.onchange?.();
  }
}

const SIDE = 128; // pixels; a model's latent has 64 or fewer
const SOFT = 3; // of blur at its edges
const RESTED = 120; // ms

/** Sends the strength map after each stroke, and to every new session. */
export class Masking {
  constructor(studio, mask) {
    let timer = null;
    let requests = 0;
    const send = async () => {
      const { version } = mask;
      const png = mask.empty ? null : await this.#png(mask.canvas);
      if (version === mask.version) studio.connection.send(encodeMask(++requests, png)); // else a later one follows
    };
    mask.onchange = () => {
      clearTimeout(timer);
      timer = setTimeout(send, RESTED);
    };
    studio.on("welcome", () => (requests > 0 || !mask.empty) && send());
  }

  async #png(painted) {
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    const context = canvas.getContext("2d", { alpha: false });
    context.filter = `brightness(0) invert(1) blur(${SOFT}px)`;
    context.drawImage(painted, 0, 0, SIDE, SIDE);
    return (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer();
  }
}
