// The parts of the page by their names in data-part; studio.js mounts them.

export { top } from "./top.js";
export { drawer } from "./drawer.js";
export { fit } from "./fit.js";
export { stage } from "./stage.js";
export { ask, travel } from "./ask.js";
export { controls } from "./controls.js";
export { looks } from "./looks.js";
export { understood } from "./understood.js";
export { mixture } from "./mixture.js";
export { source } from "./picker.js";
export { picture } from "./condition.js";
export { quality, strip } from "./strip.js";
export { effect } from "./effects.js";
export { spec } from "./spec.js";
export { hold } from "./goal.js";
export { measured } from "./speed.js";
export { keep } from "./keep.js";
