// What the engine runs as acknowledged, and one change of it on its way. Pure.

const FIRST_REQUEST = 2 ** 40; // far from the numbers of settings patches

/** `send(changes, request)` returns false while nobody listens; `changed()`: words or values differ. */
export class Respec {
  constructor({ send, changed = () => {} }) {
    Object.assign(this, { send, changed, spec: null, choices: {}, refused: "", words: "", request: FIRST_REQUEST, asked: false });
  }

  welcome({ spec, change = {} }) {
    const { refused = "", ...choices } = change;
    Object.assign(this, { spec, choices, refused, words: refused, asked: false });
    this.changed();
  }

  /** `refused`: why no change may be asked for now, or null. */
  permit(refused) {
    const reason = refused ?? "";
    if (reason === this.refused) return;
    if (!this.asked) this.words = reason;
    this.refused = reason;
    this.changed();
  }

  ask(changes) {
    const differs = Object.entries(changes).some(([key, value]) => JSON.stringify(this.spec?.[key]) !== JSON.stringify(value));
    if (differs && !this.asked && this.send(changes, this.request + 1)) {
      this.request += 1;
      Object.assign(this, { asked: what(changes), words: "Asking the server" });
    }
    this.changed();
  }

  building({ request, elapsed_s: elapsed }) {
    if (request !== this.request) return;
    this.words = `Switching ${this.asked}; the stream continues (${Math.round(elapsed)} s)`;
    this.changed();
  }

  done({ spec, adjusted = {} }) {
    const lowered = Object.entries(adjusted).map(([key, why]) => `${key}: ${why}`);
    Object.assign(this, { spec, asked: false, words: lowered.join("; ") });
    this.changed();
  }

  /** True if the error answers a change asked for here. */
  failed({ request, message }) {
    if (!this.asked || request !== this.request) return false;
    Object.assign(this, { asked: false, words: message });
    this.changed();
    return true;
  }
}

function what(changes) {
  if ("width" in changes || "height" in changes) return "size";
  return "loras" in changes ? "LoRAs" : Object.keys(changes)[0];
}
