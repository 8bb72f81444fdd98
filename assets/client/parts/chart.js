// Two minutes of a few numbers: areas on top of each other, or lines. Colours are CSS variables.

const POINTS = 240;
const FEWEST = 40;

export class Chart {
  /** `stacked` areas, or lines of which the second is a shade above the first. `floor`: least height of the scale. */
  constructor(label, colours, { stacked = false, floor = 1, low = 0 } = {}) {
    Object.assign(this, { label, colours, stacked, floor, low, rows: [], visible: false, inks: null });
    this.canvas = document.createElement("canvas");
    this.canvas.className = "rill-chart";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    // Asking the canvas for its size or colours later would lay the whole page out again.
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect)).observe(this.canvas);
    new MutationObserver(() => (this.inks = null)).observe(document.body, { attributeFilter: ["class"] }); // dark or light
  }

  /** One column: a number or null for each series, and the words for screen readers. */
  add(values, words) {
    this.rows.push(values);
    if (this.rows.length > POINTS) this.rows.shift();
    this.canvas.setAttribute("aria-label", `${this.label}: ${words}`);
    this.#draw();
  }

  #resize({ width, height }) {
    const ratio = devicePixelRatio || 1;
    this.visible = width > 0 && height > 0;
    if (!this.visible) return;
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    this.#draw();
  }

  #draw() {
    const { canvas, rows, colours, stacked } = this;
    if (!this.visible) return;
    this.inks ??= colours.map((name) => getComputedStyle(canvas).getPropertyValue(name));
    const { width: w, height: h } = canvas;
    const ratio = devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    const sums = rows.map((row) => (stacked ? accumulate(row) : row));
    const top = Math.max(this.floor, ...sums.flat().map((value) => value ?? 0)) * (stacked ? 1 : 1.05);
    const span = Math.max(FEWEST, rows.length);
    const x = (index) => ((span - rows.length + index) / (span - 1)) * w;
    const y = (value) => h - ((value - this.low) / (top - this.low)) * (h - ratio) - ratio / 2;
    context.clearRect(0, 0, w, h);
    context.lineWidth = 1.5 * ratio;
    for (let series = colours.length - 1; series >= 0; series--) {
      context.strokeStyle = context.fillStyle = this.inks[series];
      context.globalAlpha = stacked || series === 0 ? 1 : 0.35;
      context.beginPath();
      let run = [];
      sums.forEach((row, index) => {
        const value = row[series];
        if (value === null) return (run = trace(context, run, h, stacked || series > 0));
        return run.push([x(index), y(Math.max(this.low, value))]);
      });
      trace(context, run, h, stacked || series > 0);
      if (stacked || series > 0) context.fill();
      else context.stroke();
    }
    context.globalAlpha = 1;
  }
}

/** Adds a run of points to the path; a new run begins. */
function trace(context, run, ground, area) {
  if (run.length < 2) return [];
  if (area) context.moveTo(run[0][0], ground);
  run.forEach(([x, y], index) => (index || area ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (area) context.lineTo(run.at(-1)[0], ground);
  return [];
}

function accumulate(row) {
  let sum = 0;
  return row.map((value) => (sum += value ?? 0));
}
