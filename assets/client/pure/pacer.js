// When the next picture may leave: credit, and a hold that keeps frames from waiting at the server. Pure.
//
// With two frames in flight the second one waits at the server while the model works on the first: up to a whole step of
// extra latency that buys nothing. Every answer says how long its frame waited; the hold after an answer grows until frames
// arrive just before the model is free (TARGET ms), and shrinks at once when they arrive too late.

export const TARGET = 4;
const GROW = 0.15;
const SHRINK = 0.6;

const HERE = ["localhost", "127.0.0.1", "[::1]"];

/**
 * How many pictures may be under way, of the server's `credit`. Where browser and model share a processor's cores, a second one does
 * not fill idle time: capture, decoding and drawing compete with the model, and every picture waits for its neighbour.
 * (Two cores, camera at 30 pictures a second, one run, turns taken: glass to glass 97 to 81 ms at 14.6 to 13.6 pictures a second,
 * with the feature cache 98 to 69 ms at 17.8 to 14.7.)
 */
export function mostInFlight(credit, host, device) {
  return HERE.includes(host) && device.startsWith("cpu") ? 1 : credit;
}

/** The hold in ms after an answer whose frame waited `wait` ms while a step takes `model` ms. */
export function nextHold(hold, wait, model) {
  if (!(wait >= 0) || !(model > 0)) return hold;
  const late = hold > 0 && wait > Math.max(0, model - hold) + 0.4 * model; // it just missed a step that others filled
  if (late) return hold / 2;
  const error = wait - TARGET;
  return Math.min(0.9 * model, Math.max(0, hold + (error > 0 ? GROW : SHRINK) * error));
}

const SHARE = 0.6; // of the source's interval that is waited at most for its next picture
const GRACE = 4; // ms that a picture may come late before the present one leaves instead
const GAP = 250; // ms; a longer silence is no interval

/**
 * When the source's next picture is due. A slot that opens shortly before it is worth holding: the picture at hand is nearly an
 * interval old, and all of that would be latency. At 30 pictures a second and a model of 52 ms it takes p50 from 99 to 86 ms
 * for 3% of the rate (simulated in the tests).
 */
export class Rhythm {
  constructor() {
    this.last = null;
    this.interval = null; // ms
  }

  /** The source had a new picture at `time`. */
  offered(time) {
    const gap = this.last === null ? GAP : time - this.last;
    this.last = time;
    if (gap > 0 && gap < GAP) this.interval = this.interval === null ? gap : this.interval + 0.1 * (gap - this.interval);
  }

  /** Milliseconds to wait at `now` for a fresher picture, at most; 0: take the one at hand. */
  patience(now) {
    const due = this.interval === null ? 0 : this.last + this.interval - now;
    return due > 0 && due <= SHARE * this.interval ? due + GRACE : 0;
  }
}

export class Pacer {
  constructor() {
    this.reset(-1, 2);
  }

  /** A new connection: ids go on above `lastId`, which is settled. */
  reset(lastId, credit) {
    this.credit = credit;
    this.nextId = lastId + 1;
    this.settled = lastId;
    this.open = new Map(); // id → capture time of frames that have no answer of their own yet
    this.hold = 0;
    this.notBefore = 0;
  }

  get unsettled() {
    return this.nextId - 1 - this.settled;
  }

  /** Milliseconds until a picture may be captured: 0 now, Infinity when an answer has to come first. */
  delay(now) {
    if (this.unsettled >= this.credit) return Infinity;
    if (this.unsettled === 0) return 0; // nothing is under way: every hold would be idle time
    return Math.max(0, this.notBefore - now);
  }

  /** Takes the next id for a picture captured at `capturedAt`. */
  take(capturedAt) {
    const id = this.nextId++;
    this.open.set(id, capturedAt);
    return id;
  }

  /** The picture of the newest id could not be taken or sent: as if it had never been. */
  giveBack(id) {
    if (id === this.nextId - 1) this.nextId = id;
    this.open.delete(id);
  }

  /**
   * Books an answer; returns how many frames before it were dropped without an answer of their own. Pictures come in order,
   * so those are the unanswered ones older than a picture. (A settled one may still be inside the stream batch.)
   */
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
