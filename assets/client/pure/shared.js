// Settings that several parts move for a while: they return to what they were once the last part is done. Pure.

export class Shared {
  /** `settings`: has `wanted()` and `put(key, value)`. */
  constructor(settings) {
    Object.assign(this, { settings, users: new Set(), before: {} });
  }

  take(user, patch) {
    const now = this.settings.wanted();
    this.users.add(user);
    for (const [key, value] of Object.entries(patch)) {
      if (!(key in this.before)) this.before[key] = now[key];
      this.settings.put(key, value);
    }
  }

  give(user) {
    if (!this.users.delete(user) || this.users.size) return;
    for (const [key, value] of Object.entries(this.before)) this.settings.put(key, value);
    this.before = {};
  }
}
