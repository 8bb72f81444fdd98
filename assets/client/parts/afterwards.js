// What comes right after the first picture of the stream.

export { condition } from "./condition.js";
export { movable } from "./order.js";
export { peek } from "./peek.js";
// Here before the server can be away: what an input needs that ends or fails.
export { held } from "../flow/stills.js";
export { explain } from "../pure/faults.js";
