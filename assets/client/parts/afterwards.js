// What comes right after the first picture of the stream.

export { condition } from "./condition.js";
export { movable } from "./order.js";
export { peek } from "./peek.js";
