// The painted strength map: only what is painted is changed. It is sent a little after each stroke, and to every new session.

import { encodeMask } from "../wire/protocol.js";

const SIDE = 128; // pixels; a model's latent has 64 or fewer
const SOFT = 3; // pixels of blur at its edges
const RESTED = 120; // ms after the last stroke

export class Masking {
  constructor(studio) {
    this.studio = studio;
    this.requests = 0;
    studio.mask.onchange = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.send(), RESTED);
    };
    studio.addEventListener("welcome", () => studio.mask.empty || this.send());
  }

  async send() {
    const { mask, connection } = this.studio;
    const png = mask.empty ? null : await this.#png(mask.canvas);
    connection.send(encodeMask(++this.requests, png));
  }

  /** White where it was painted, else black. */
  async #png(painted) {
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    const context = canvas.getContext("2d", { alpha: false });
    context.filter = `brightness(0) invert(1) blur(${SOFT}px)`;
    context.drawImage(painted, 0, 0, SIDE, SIDE);
    return (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer();
  }
}
