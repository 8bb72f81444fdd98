// A link that restores settings: what differs from the defaults, after the # (never sent to a server). Pure.

import { coerce } from "./settings.js";

export function toHash(values, fields) {
  const parameters = new URLSearchParams();
  for (const [key, field] of Object.entries(fields)) {
    if (field && key in values && values[key] !== field.default) parameters.set(key, String(values[key]));
  }
  return parameters.toString();
}

export function fromHash(hash, fields) {
  return fitting(Object.fromEntries(new URLSearchParams(hash.replace(/^#/, ""))), fields);
}

/** Those of `values` (text or typed) that `fields` declares, made to fit. */
export function fitting(values, fields) {
  const known = {};
  for (const [key, given] of Object.entries(values)) {
    const field = Object.hasOwn(fields, key) ? fields[key] : null;
    if (field === null) continue;
    const value = field.kind === "flag" ? ({ true: true, false: false })[given] : coerce(field, given);
    if (value !== undefined) known[key] = value;
  }
  return known;
}
