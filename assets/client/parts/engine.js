// The parts of the drawer, which come when it first opens.

export { effect, measured, watchTrial } from "./speed.js";
export { fit } from "./fit.js";
export { hold } from "./goal.js";
export { preset } from "./preset.js";
export { quality, strip } from "./strip.js";
export { spec } from "./spec.js";
