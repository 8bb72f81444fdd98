// When the next picture may leave: credit, and a hold after each answer that grows until frames arrive just before the model is free,
// and shrinks at once when they come late. docs/client.md, "Pace and latency", has the reasons and figures. Pure.

export const TARGET = 4;
const GROW = 0.15;
const SHRINK = 0.6;

export const HERE = ["localhost", "127.0.0.1", "[::1]"];

/** How many pictures may be under way: one where browser and model share a processor's cores, else the server's `credit`. */
export function mostInFlight(credit, host, device) {
  return HERE.includes(host) && device.startsWith("cpu") ? 1 : credit;
}

/** The hold in ms after a frame waited `wait` ms while a step takes `model` ms. */
export function nextHold(hold, wait, model) {
  if (!(wait >= 0) || !(model > 0)) return hold;
  const late = hold > 0 && wait > Math.max(0, model - hold) + 0.4 * model; // it just missed a step that others filled
  if (late) return hold / 2;
  const error = wait - TARGET;
  return Math.min(0.9 * model, Math.max(0, hold + (error > 0 ? GROW : SHRINK) * error));
}

const SHARE = 0.6; // of the interval that is waited at most
const GRACE = 4; // ms that a picture may come late
const GAP = 250; // ms; a longer silence is no interval

/** When the source's next picture is due: a slot that opens just before is worth holding. */
export class Rhythm {
  constructor() {
    this.last = null;
    this.interval = null; // ms
  }

  offered(time) {
    const gap = this.last === null ? GAP : time - this.last;
    this.last = time;
    if (gap > 0 && gap < GAP) this.interval = this.interval === null ? gap : this.interval + 0.1 * (gap - this.interval);
  }

  /** ms to wait for a fresher picture; 0: take the one at hand. */
  patience(now) {
    const due = this.interval === null ? 0 : this.last + this.interval - now;
    return due > 0 && due <= SHARE * this.interval ? due + GRACE : 0;
  }
}

export class Pacer {
  constructor() {
    this.reset(-1, 2);
  }

  /** A new connection: ids go on above `lastId`. */
  reset(lastId, credit) {
    this.credit = credit;
    this.nextId = lastId + 1;
    this.settled = lastId;
    this.open = new Map(); // id → capture time, without an answer of their own
    this.hold = 0;
    this.notBefore = 0;
  }

  get unsettled() {
    return this.nextId - 1 - this.settled;
  }

  /** ms until a picture may be captured: 0 now, Infinity when an answer comes first. */
  delay(now) {
    if (this.unsettled >= this.credit) return Infinity;
    if (this.unsettled === 0) return 0; // every hold would be idle time
    return Math.max(0, this.notBefore - now);
  }

  take(capturedAt) {
    const id = this.nextId++;
    this.open.set(id, capturedAt);
    return id;
  }

  /** The newest id's picture could not be sent: as if it had never been. */
  giveBack(id) {
    if (id === this.nextId - 1) this.nextId = id;
    this.open.delete(id);
  }

  /** Books an answer; returns how many frames before it were dropped without an answer of their own: the open ones older than a picture. */
  answered(answer, now) {
    const { stages } = answer;
    if (answer.verdict === "generated" || answer.verdict === "cached") {
      this.hold = nextHold(this.hold, answer.wait, stages.encode + stages.denoise + stages.decode);
    } else if (answer.verdict === "skipped") {
      this.hold /= 2;
    }
    this.notBefore = now + this.hold;
    this.open.delete(answer.id);
    this.settled = Math.max(this.settled, answer.settled);
    return answer.verdict === "generated" || answer.verdict === "cached" ? this.#overtaken(answer.id) : 0;
  }

  #overtaken(pictureId) {
    let silent = 0;
    for (const id of this.open.keys()) {
      if (id > pictureId) break;
      this.open.delete(id);
      silent += 1;
    }
    return silent;
  }
}
