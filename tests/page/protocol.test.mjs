import assert from "node:assert/strict";
import test from "node:test";
import { encodeMask, encodePicture } from "../../assets/client/wire/conditions.js";
import { ANSWER_HEADER, FORMAT, decodeAnswer, decodeReference, encodeFrame, messages } from "../../assets/client/wire/protocol.js";

const FROM_PYTHON = process.env.RILL_ANSWER_HEX; // made by studio.protocol, see test_client.py
const FRAME_TO_PYTHON = process.env.RILL_FRAME_HEX;

test("a frame is its header and its picture", () => {
  const buffer = encodeFrame(258, 12.5, FORMAT.jpeg, new Uint8Array([9, 8, 7]).buffer);
  assert.equal(Buffer.from(buffer).toString("hex"), "52010101" + "02010000" + "0000000000002940" + "090807");
  assert.equal(encodeFrame(1, 0, FORMAT.none, null).byteLength, 16);
});

test("the server's own packing is read back", { skip: FROM_PYTHON ? false : "run through pytest" }, () => {
  const bytes = Uint8Array.from(Buffer.from(FROM_PYTHON, "hex"));
  const answer = decodeAnswer(bytes.buffer);
  assert.equal(answer.id, 7);
  assert.equal(answer.capturedAt, 1.25);
  assert.equal(answer.settled, 9);
  assert.equal(answer.settingsVersion, 3);
  assert.equal(answer.verdict, "cached");
  assert.equal(answer.reason, "none");
  assert.deepEqual(Object.values(answer.stages), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(answer.wait, 9);
  assert.equal(answer.total, 10);
  assert.deepEqual(answer.quality, { ssim: 0.5, psnr: 30, flicker: null });
  assert.equal(answer.mime, "image/jpeg");
  assert.deepEqual([...answer.picture], [1, 2, 3]);
  const frame = encodeFrame(7, 1.25, FORMAT.webp, new Uint8Array([1, 2, 3]).buffer);
  assert.equal(Buffer.from(frame).toString("hex"), FRAME_TO_PYTHON);
});

test("a mask and a reference are what the server packs", { skip: FROM_PYTHON ? false : "run through pytest" }, () => {
  assert.equal(Buffer.from(encodeMask(258, new Uint8Array([9, 8]).buffer)).toString("hex"), process.env.RILL_MASK_HEX);
  assert.equal(Buffer.from(encodeMask(7, null)).toString("hex"), "5201030007000000");
  const given = encodePicture(258, FORMAT.jpeg, new Uint8Array([9, 8]).buffer);
  assert.equal(Buffer.from(given).toString("hex"), process.env.RILL_PICTURE_HEX);
  assert.equal(Buffer.from(encodePicture(258, FORMAT.jpeg, new Uint8Array([9, 8]).buffer, true)).toString("hex"), process.env.RILL_PICTURE_B_HEX);
  assert.equal(Buffer.from(encodePicture(7, FORMAT.none, null)).toString("hex"), "5201050007000000");
  const reference = Uint8Array.from(Buffer.from(process.env.RILL_REFERENCE_HEX, "hex"));
  const { id, mime, picture } = decodeReference(reference.buffer);
  assert.deepEqual([id, mime, [...picture]], [7, "image/jpeg", [1, 2, 3]]);
  assert.equal(decodeReference(Uint8Array.from(Buffer.from(FROM_PYTHON, "hex")).buffer), null);
});

test("what is no answer is refused", () => {
  assert.throws(() => decodeAnswer(new ArrayBuffer(10)), RangeError);
  const bytes = new Uint8Array(ANSWER_HEADER);
  assert.throws(() => decodeAnswer(bytes.buffer), RangeError);
  bytes.set([0x52, 1, 2, 1]);
  assert.equal(decodeAnswer(bytes.buffer.slice(0)).verdict, "generated");
  bytes[24] = 99;
  assert.throws(() => decodeAnswer(bytes.buffer.slice(0)), RangeError);
  bytes[24] = 0;
  bytes[3] = 77;
  assert.throws(() => decodeAnswer(bytes.buffer.slice(0)), RangeError);
});

test("hello carries only what is known", () => {
  assert.deepEqual(Object.keys(JSON.parse(messages.hello())).sort(), ["client", "picture", "protocol", "type", "wait"]);
  const resumed = JSON.parse(messages.hello({ resume: "secret", settings: {} }));
  assert.equal(resumed.resume, "secret");
  assert.equal("settings" in resumed, false);
});
