// The parts of the page by their names in data-part. engine.js has those of the drawer.

export { drawer, top } from "./top.js";
export { stage } from "./stage.js";
export { ask, mixture, travel, understood } from "./ask.js";
export { controls } from "./controls.js";
export { looks } from "./looks.js";
export { source } from "./picker.js";
export { picture } from "./picture.js";
export { keep } from "./keep.js";
