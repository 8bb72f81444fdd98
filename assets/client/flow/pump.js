// From the source to the socket: with credit the newest picture leaves, or the next if it is just due. Nothing queues.

import { Encoder } from "./encoder.js";
import { later } from "./ticker.js";
import { mostInFlight, Pacer, Rhythm } from "../pure/pacer.js";

const BACKLOG = 256 * 1024; // bytes in the browser's socket buffer: capture later

export class Pump {
  constructor(connection, stats) {
    Object.assign(this, { connection, stats, source: null, paused: false, mirror: false, fit: false, size: null });
    this.encoder = new Encoder();
    this.pacer = new Pacer();
    this.rhythm = new Rhythm();
    this.fresh = null; // its capture time, not sent yet
    this.waitingSince = null; // frames are under way without any answer
  }

  welcome({ last_frame_id: lastId, limits, spec, paused }) {
    this.pacer.reset(lastId, mostInFlight(limits.credit, location.hostname, spec.device));
    this.size = { width: spec.width, height: spec.height };
    this.paused = paused;
    this.waitingSince = null;
    this.#go();
  }

  use(source) {
    if (this.source) this.source.onpicture = null;
    this.source = source;
    this.rhythm = new Rhythm();
    this.fresh = null;
    if (!source) return;
    source.onpicture = (time) => {
      this.stats.offered(time);
      this.rhythm.offered(time);
      this.fresh = time;
      this.#go();
    };
  }

  answered(answer, now) {
    const lost = this.pacer.answered(answer, now);
    this.waitingSince = this.pacer.unsettled > 0 ? now : null;
    if (lost) this.stats.lost(now, lost);
    this.#go();
  }

  #go() {
    if (this.fresh === null || this.paused || !this.size || !this.connection.open || this.encoder.busy) return;
    const now = performance.now();
    const held = this.connection.backlog > BACKLOG ? 20 : this.pacer.delay(now);
    if (held === Infinity) return;
    const delay = held > 0.5 ? held : this.rhythm.patience(now);
    if (delay <= 0.5) return this.#send();
    const turn = (this.turn = (this.turn ?? 0) + 1);
    later(delay, () => turn === this.turn && this.#go());
  }

  async #send() {
    this.turn = (this.turn ?? 0) + 1; // a timer that still runs is void
    const { source, connection, pacer } = this;
    const capturedAt = this.fresh;
    this.fresh = null;
    const id = pacer.take(capturedAt);
    const { socket } = connection;
    const message = await this.encoder.encode(id, capturedAt / 1000, source, { ...this.size, mirror: this.mirror, fit: this.fit });
    if (socket !== connection.socket) return; // another connection: its ids are void
    if (message && connection.send(message)) {
      const now = performance.now();
      this.stats.left(now, message.byteLength, now - capturedAt);
      this.waitingSince ??= performance.now();
    } else {
      pacer.giveBack(id);
    }
    this.#go();
  }
}
