// The parts of the page by their names in data-part.

export { drawer, top } from "./top.js";
export { stage } from "./stage.js";
export { ask, travel } from "./ask.js";
export { controls } from "./controls.js";
export { looks } from "./looks.js";
export { mixture, understood } from "./remarks.js";
export { fit, source } from "./picker.js";
export { picture } from "./condition.js";
export { quality, strip } from "./strip.js";
export { spec } from "./spec.js";
export { hold } from "./goal.js";
export { effect, measured } from "./speed.js";
export { keep } from "./keep.js";
