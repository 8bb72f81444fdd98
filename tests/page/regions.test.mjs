import assert from "node:assert/strict";
import test from "node:test";
import { paintsRegion } from "../../assets/client/pure/regions.js";

test("the mask is for a region only where the prompt has the painted one", () => {
  for (const prompt of ["painted: ink | rest: photo", "left: a | Painted : b"]) assert.ok(paintsRegion(prompt), prompt);
  for (const prompt of ["", undefined, "painted: ink", "a painted: b | c", "left: painted | right: b"]) assert.ok(!paintsRegion(prompt), prompt);
});
