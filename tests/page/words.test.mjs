import assert from "node:assert/strict";
import test from "node:test";
import { phrase } from "../../assets/client/parts/speed.js";
import { afterClose, pauseBefore, words } from "../../assets/client/wire/link.js";
import { explain } from "../../assets/client/pure/faults.js";
import { centreCrop, placed, pictureType } from "../../assets/client/pure/media.js";

const live = { state: "live", source: {}, seenPicture: true, paused: false, waitingSince: null, reason: "", retryAt: null };
const here = { secure: true, embedded: false, supported: true };

test("every close code of the protocol has its consequence", () => {
  const again = { 1006: true, 1011: true, 1012: true, 4408: true, 4410: true, 4429: true, 4503: true };
  for (const code of [1000, 1006, 1009, 1011, 1012, 4400, 4401, 4408, 4409, 4410, 4429, 4440, 4500, 4503]) {
    const next = afterClose(code, { welcomed: true });
    assert.equal(next.again, Boolean(again[code]), String(code));
    assert.ok(next.again || next.reason.length > 10, String(code));
  }
  assert.equal(afterClose(4410).resume, false);
  assert.equal(afterClose(1006).resume, true);
  assert.equal(afterClose(4503).state, "full");
  assert.match(afterClose(4500, { fatal: "unet.safetensors is missing" }).reason, /unet\.safetensors is missing/);
});

test("a turn that is over begins again at the end of the line, with a new session", () => {
  const next = afterClose(4460);
  assert.deepEqual([next.again, next.resume], [true, false]);
  assert.match(next.reason, /others were waiting/);
});

test("pauses grow to eight seconds, each with some chance in it", () => {
  const pauses = [0, 1, 2, 3, 4, 50].map((attempt) => pauseBefore(attempt, 0.5));
  assert.deepEqual(pauses, [0.5, 1, 2, 4, 8, 8]);
  assert.ok(pauseBefore(0, 0) < pauseBefore(0, 1));
});

test("the status is true in every state", () => {
  assert.equal(words(live, 0).text, "Live");
  assert.equal(words({ ...live, paused: true }, 0).text, "Paused");
  assert.match(words({ ...live, source: null }, 0).text, /Choose an input/);
  assert.match(words({ ...live, waitingSince: 1000 }, 6000).text, /not answered for 5 s/);
  const first = { ...live, seenPicture: false };
  assert.match(words(first, 0).text, /first picture is on its way\./);
  const slow = words({ ...first, waitingSince: 1000 }, 8000);
  assert.deepEqual([slow.tone, /first picture is on its way, 7 s so far/.test(slow.text)], ["busy", true], slow.text);
  assert.match(words({ ...live, state: "lost", reason: "The connection was lost.", retryAt: 2000 }, 500).text, /lost\. Trying again in 2 s/);
  assert.match(words({ ...live, state: "full", reason: "All places are taken.", retryAt: 1 }, 500).text, /taken\. Trying again now/);
  assert.match(words({ ...live, state: "loading", elapsed: 12.4, reason: "" }, 0).text, /Preparing the model \(first time only\): 12 s/);
  assert.match(words({ ...live, state: "queue", place: 2, of: 3, turn: 25, seatAt: 50000 }, 300).text, /number 2 of 3: about 50 s\. Turns are 25 s when busy/);
  assert.match(words({ ...live, state: "queue", place: 1, of: 3, turn: 25, seatAt: 12000 }, 2000).text, /You're next: about 10 s\./);
  assert.match(words({ ...live, state: "queue", place: 1, of: 3, turn: 25, seatAt: 12000 }, 13000).text, /You're next: any moment now\./);
  assert.match(words({ ...live, turnEnds: 9000, watched: true }, 0).text, /waiting and see your picture: your turn ends in 9 s/);
  assert.match(words({ ...live, turnEnds: 12500 }, 500).text, /your turn ends in 12 s/);
  assert.equal(words({ ...live, state: "ended", reason: "Over." }, 0).tone, "bad");
});

test("whatever keeps the camera away is said with what to do", () => {
  const refused = { name: "NotAllowedError" };
  assert.match(explain("camera", null, { ...here, secure: false, supported: false }), /HTTPS or on localhost/);
  assert.match(explain("camera", refused, here), /Allow it with the camera symbol/);
  assert.match(explain("camera", refused, { ...here, embedded: true }), /own tab/);
  assert.match(explain("camera", { name: "NotFoundError" }, here), /No camera was found/);
  assert.match(explain("camera", { name: "NotReadableError" }, here), /another program/);
  assert.match(explain("screen", refused, here), /No screen was chosen/);
  assert.match(explain("screen", null, { ...here, supported: false }), /cannot share a screen/);
  assert.match(explain("clip", { name: "NotSupportedError" }, here), /MP4 or WebM/);
  assert.match(explain("clip", null, { ...here, file: "a:b.MP4" }), /^a:b.MP4 cannot/);
  assert.match(explain("camera", { name: "Odd", message: "why" }, here), /did not start: why/);
});

test("the crop is the largest centred part of the target's shape", () => {
  assert.deepEqual(centreCrop(1280, 720, 512, 512), { x: 280, y: 0, width: 720, height: 720 });
  assert.deepEqual(centreCrop(480, 640, 512, 256), { x: 0, y: 200, width: 480, height: 240 });
  assert.deepEqual(centreCrop(512, 512, 512, 512), { x: 0, y: 0, width: 512, height: 512 });
});

test("a picture that fits is whole, centred and in its own shape", () => {
  assert.deepEqual(placed(1280, 720, 512, 512, true), { crop: { x: 0, y: 0, width: 1280, height: 720 }, to: { x: 0, y: 112, width: 512, height: 288 } });
  assert.deepEqual(placed(480, 640, 1024, 576, true).to, { x: 296, y: 0, width: 432, height: 576 });
  assert.deepEqual(placed(1280, 720, 512, 512, false), { crop: centreCrop(1280, 720, 512, 512), to: { x: 0, y: 0, width: 512, height: 512 } });
});

test("a row of the speed panel says only what the counts show", () => {
  const summary = { counts: { generated: 1, cached: 2, skipped: 1 } };
  assert.equal(phrase("gate", { "gate.enabled": true }, summary, null), "25% skipped");
  assert.equal(phrase("gate", { "gate.enabled": false }, summary, null), "");
  const refining = { "refine.enabled": true, "refine.steps": 4, "cache.enabled": false };
  assert.equal(phrase("refine", { ...refining, steps: 1 }, summary, null), "");
  assert.equal(phrase("refine", { ...refining, steps: 4 }, summary, null), "idle: all steps are live");
  assert.equal(phrase("refine", { ...refining, steps: 4, "cache.enabled": true }, summary, null), "");
  assert.equal(phrase("cache", { "cache.enabled": true }, summary, null), "50% reused");
  const costs = { ...summary, model: { generated: 40, cached: 30 } };
  assert.equal(phrase("gate", { "gate.enabled": true }, costs, null), "25% skipped, −10.0 ms");
  assert.equal(phrase("cache", { "cache.enabled": true }, costs, null), "50% reused, −5.0 ms");
  assert.equal(phrase("partial", { "partial.enabled": true }, costs, null), "50% in part, −5.0 ms");
  assert.equal(phrase("partial", { "partial.enabled": true, "cache.enabled": true }, costs, null), "");
  assert.equal(phrase("cache", { "partial.enabled": true, "cache.enabled": true }, costs, null), "50% reused or in part, −5.0 ms");
  assert.equal(phrase("stream_batch", { steps: 1, "stream_batch.enabled": true }, summary, null), "idle at 1 step");
  assert.match(phrase("guidance", {}, summary, { guidance_trained: false }), /trained without/);
  assert.equal(phrase("noise", {}, summary, null), "");
});

test("the first bytes give the type of a picture, not its name", () => {
  const type = (text) => pictureType(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
  assert.equal(type("\x89PNG\r\n\x1a\n0000IHDR"), "image/png");
  assert.equal(type("\xff\xd8\xff\xe0 JFIF"), "image/jpeg");
  assert.equal(type("GIF89a"), "image/gif");
  assert.equal(type("RIFF\n\0\n\0WEBPVP8X"), "image/webp");
  assert.equal(type("\0\0\0 ftypavis"), "image/avif");
  for (const other of ["\0\0\0 ftypisom", "\x1aE\xdf\xa3", "RIFFxxxxAVI ", ""]) assert.equal(type(other), null);
});
