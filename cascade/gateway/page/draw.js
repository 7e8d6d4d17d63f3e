// What is drawn: figures in words, elements, bars, plots. Texts are set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);

const el = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

const say = {
  usd(value) {
    if (value === null || value === undefined) return "unknown";
    const size = Math.abs(value);
    return (value < 0 ? "−$" : "$") + size.toFixed(size === 0 || size >= 1 ? 2 : size >= 0.01 ? 4 : 6);
  },
  seconds(value) {
    if (value === null || value === undefined) return "–";
    if (value < 0.001) return (value * 1e6).toFixed(0) + " µs";
    return value < 1 ? (value * 1000).toFixed(value < 0.01 ? 1 : 0) + " ms" : value.toFixed(2) + " s";
  },
  share: (value) => (value === null || value === undefined ? "–" : (value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0) + " %"),
  count: (value) => value.toLocaleString("en"),
  time: (value) => new Date(value * 1000).toLocaleTimeString([], { hour12: false }),
  word: (value) => value.replaceAll("_", " "),
};

const empty = (...what) => el("div", { class: "empty" }, ...what);

const bar = (name, told, share, colour) => {
  const fill = el("div", { class: "fill t" + Math.min(colour, 4) });
  fill.style.width = (Math.max(0, Math.min(1, share)) * 100).toFixed(1) + "%";
  return el("div", { class: "bar" }, el("div", { class: "head" }, el("span", {}, name), el("span", {}, told)),
    el("div", { class: "track" }, fill));
};

const histogram = (tier, counts, colour) => {
  const most = Math.max(...counts, 1), all = counts.reduce((a, b) => a + b, 0);
  const bars = counts.map((count, i) => {
    const one = el("i", { title: (i / counts.length).toFixed(2) + "–" + ((i + 1) / counts.length).toFixed(2) + ": " + count });
    one.style.height = ((count / most) * 100).toFixed(1) + "%";
    return one;
  });
  return el("div", {}, el("div", { class: "head quiet" }, tier + " (" + say.count(all) + ")"),
    el("div", { class: "hist t" + Math.min(colour, 4), role: "img", "aria-label": "Confidences of " + tier }, ...bars),
    el("div", { class: "axis" }, el("span", {}, "0"), el("span", {}, "confidence"), el("span", {}, "1")));
};

const SVG = "http://www.w3.org/2000/svg";
const svg = (name, attributes, text) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

const reliability = (bins) => {
  const box = svg("svg", { viewBox: "0 0 120 120", class: "reliability", role: "img",
    "aria-label": "Mean quality over mean confidence, a point for each tenth of confidence" });
  const x = (v) => 14 + v * 100, y = (v) => 104 - v * 100, most = Math.max(...bins.map((b) => b.n));
  box.append(svg("rect", { x: 14, y: 4, width: 100, height: 100, class: "frame" }),
    svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "ideal" }),
    svg("text", { x: 64, y: 116, "text-anchor": "middle" }, "confidence"),
    svg("text", { x: 9, y: 54, "text-anchor": "middle", transform: "rotate(-90 9 54)" }, "proved right"));
  for (const bin of bins) {
    const dot = svg("circle", { cx: x(bin.confidence), cy: y(bin.quality), r: 2 + 4 * Math.sqrt(bin.n / most) });
    dot.append(svg("title", {}, `confidence ${bin.confidence.toFixed(2)}, right ${bin.quality.toFixed(2)}, ${bin.n} runs`));
    box.append(dot);
  }
  return box;
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A plot over time that follows its element's width and the page's colours.
class Plot {
  constructor(id, series, height) {
    this.at = $(id);
    this.height = height;
    this.series = series;
    this.data = [[], ...series.map(() => [])];
    new ResizeObserver(() => this.fit()).observe(this.at);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.make());
    this.make();
  }
  size() { return { width: Math.max(200, this.at.clientWidth), height: this.height }; }
  fit() { if (this.plot.width !== this.size().width) this.plot.setSize(this.size()); }
  make() {
    if (this.plot) this.plot.destroy();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const shown = (v) => (v === null || v === undefined ? "–" : v >= 10 ? v.toFixed(0) : Number(v.toPrecision(3)).toString());
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: this.series.length > 1 },
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
      axes: [{ ...axis, space: 80, size: 30, values: (_, ticks) => ticks.map(say.time) }, { ...axis, size: 48, values: (_, ticks) => ticks.map(shown) }],
      series: [{ label: "at", value: (_, v) => (v === null || v === undefined ? "–" : say.time(v)) }, ...this.series.map(([label, name, fill]) => ({
        label, stroke: colour(name), width: 2, fill: fill ? colour(name) + "22" : undefined, points: { show: false },
        value: (_, v) => shown(v) }))],
    }, this.data, this.at);
  }
  show(data) { this.data = data; this.plot.setData(data); }
}
