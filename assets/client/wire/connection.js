// The websocket: hello, resume, ping, retrying. Decisions are in link.js.

import { SUBPROTOCOL, decodeAnswer, decodeReference, messages } from "./protocol.js";
import { afterClose, pauseBefore } from "./link.js";

const PING_EVERY = 5; // s; a silent death is noticed within PONG_LIMIT of them
const PONG_LIMIT = 2;

const REFUSED = `The server refuses a page from ${globalThis.location?.origin}. Behind a proxy start it with --trusted-proxy, else with --allow-origin.`;

export const VIEW = new URL("../../view", import.meta.url).href;

/** The address of a view's pictures; `at`: which of several servers has it. */
export const mjpeg = (at, token) => `${VIEW}.mjpeg?${new URLSearchParams({ ...(at && { at }), token })}`;

export class Connection {
  /** `on`: { state(link), welcome(message), answer(answer, bytes), reference, settings, telemetry, error, rtt(ms) } */
  constructor(url, healthUrl, on) {
    this.url = url;
    this.healthUrl = healthUrl;
    this.on = on;
    this.socket = null;
    this.attempt = 0;
    this.resume = null;
    this.at = null; // which of several servers holds the session
    this.settings = null; // gives the settings of a new session
    this.keep = true; // may it be asked for those settings?
    this.timers = { retry: null, ping: null };
    this.link = { turnEnds: null, state: "connecting", reason: "", retryAt: null, elapsed: null, resumed: false };
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN && this.link.state === "live";
  }

  connect() {
    clearTimeout(this.timers.retry);
    this.#drop();
    this.fatal = null;
    this.welcomed = false;
    this.opened = false;
    this.#say({ state: "connecting", reason: "", retryAt: null, elapsed: null });
    const socket = new WebSocket(this.address, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.opened = true;
      const fresh = this.resume === null && this.keep ? this.settings?.() : null;
      socket.send(messages.hello({ resume: this.resume, settings: fresh }));
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#text(data) : this.#binary(data));
    socket.onclose = ({ code }) => this.#closed(code);
    this.socket = socket;
  }

  get address() {
    return this.at ? `${this.url}?at=${encodeURIComponent(this.at)}` : this.url;
  }

  /** False without a live session. */
  send(data) {
    if (!this.open) return false;
    this.socket.send(data);
    return true;
  }

  get backlog() {
    return this.socket?.bufferedAmount ?? 0;
  }

  /** The page goes away: for good, or (`back`) perhaps to be shown again. */
  end(back) {
    if (this.open && !back) this.socket.send(messages.bye());
    clearTimeout(this.timers.retry);
    this.#drop();
    if (back) this.#say({ state: "lost", reason: "The page was away.", retryAt: null });
  }

  #binary(data) {
    const reference = decodeReference(data);
    if (reference) return this.on.reference(reference);
    let answer;
    try {
      answer = decodeAnswer(data);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.on.error?.({ message: `The server sent something that this page cannot read (${error.message}).` });
      return null;
    }
    return this.on.answer(answer, data.byteLength);
  }

  #text(data) {
    const message = JSON.parse(data);
    switch (message.type) {
      case "loading":
        return this.#say({ state: "loading", reason: message.message, elapsed: message.elapsed_s });
      case "waiting":
        this.attempt = 0;
        return this.#say({ state: "queue", place: message.place, of: message.of, turn: message.turn_s, watch: message.view ? { at: message.at, token: message.view } : null,
          seatAt: performance.now() + message.wait_s * 1000 });
      case "turn":
        return this.#say({ turnEnds: message.ends_in_s === undefined ? null : performance.now() + message.ends_in_s * 1000, watched: message.watched });
      case "welcome":
        return this.#welcome(message);
      case "pong":
        this.unanswered = 0;
        return this.on.rtt?.(performance.now() - message.t * 1000);
      case "error":
        if (message.fatal) this.fatal = message.message;
        else this.on.error?.(message);
        return;
      default:
        return this.on[message.type]?.(message);
    }
  }

  #welcome(message) {
    this.attempt = 0;
    this.welcomed = true;
    this.keep = true;
    const returning = this.resume !== null;
    this.resume = message.resume;
    this.at = message.at ?? null;
    this.unanswered = 0;
    clearInterval(this.timers.ping);
    this.timers.ping = setInterval(() => this.#ping(), Math.min(PING_EVERY, message.limits.ping_s) * 1000);
    this.on.welcome(message);
    this.#say({ state: "live", reason: "", resumed: returning && message.resumed, retryAt: null, turnEnds: null });
    this.#ping();
  }

  #ping() {
    if (!this.open) return;
    if (this.unanswered >= PONG_LIMIT) return this.#closed(1006);
    this.unanswered += 1;
    this.socket.send(messages.ping(performance.now() / 1000));
  }

  #closed(code) {
    this.#drop();
    const next = afterClose(code, { welcomed: this.welcomed, fatal: this.fatal });
    if (!next.resume) this.resume = null;
    if (code === 4400 && this.keep && this.settings?.() && !this.welcomed) {
      this.keep = false; // perhaps it does not know a setting of the last server
      Object.assign(next, { again: true, state: "connecting", reason: "" });
    }
    if (!next.again) return this.#say({ state: next.state, reason: next.reason, retryAt: null });
    const pause = next.state === "connecting" ? 0 : pauseBefore(this.attempt++, Math.random()) * 1000;
    this.#say({ state: next.state, reason: next.reason, retryAt: performance.now() + pause });
    this.timers.retry = setTimeout(() => this.connect(), pause);
    if (!this.opened) this.#diagnose();
  }

  /** The handshake failed. Is the server there at all? */
  async #diagnose() {
    try {
      await fetch(this.healthUrl, { cache: "no-store" });
    } catch (error) {
      if (error instanceof TypeError) return;
      throw error;
    }
    if (this.link.state === "lost") this.#say({ reason: REFUSED });
  }

  #drop() {
    clearInterval(this.timers.ping);
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState < WebSocket.CLOSING) socket.close();
  }

  #say(change) {
    Object.assign(this.link, change);
    this.on.state(this.link);
  }
}
