// A minute of latency in a small canvas: p50 as a line, p95 as a shade above it.

export class Sparkline {
  constructor(points) {
    this.points = points;
    this.values = [];
    this.canvas = document.createElement("canvas");
    this.canvas.className = "rill-spark";
    this.canvas.setAttribute("aria-hidden", "true");
  }

  add(low, high) {
    this.values.push(low === null ? null : { low, high: high ?? low });
    if (this.values.length > this.points) this.values.shift();
    this.#draw();
  }

  #draw() {
    const { canvas, values } = this;
    const points = Math.max(20, values.length); // the first seconds are not squeezed into a corner
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const top = Math.max(20, ...values.map((value) => value?.high ?? 0)) * 1.1;
    const x = (index) => ((points - values.length + index) / (points - 1)) * width;
    const y = (value) => height - (value / top) * (height - 2) - 1;
    context.strokeStyle = context.fillStyle = getComputedStyle(canvas).color;
    const solid = values.map((value, index) => ({ value, index })).filter(({ value }) => value !== null);
    if (solid.length < 2) return;
    context.globalAlpha = 0.2;
    context.beginPath();
    for (const { value, index } of solid) context.lineTo(x(index), y(value.high));
    for (const { value, index } of [...solid].reverse()) context.lineTo(x(index), y(value.low));
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const { value, index } of solid) context.lineTo(x(index), y(value.low));
    context.stroke();
  }
}
