// The three lines over time, by uPlot.
import { $ } from "./markup.js";
import { clock, rate, seconds, usd } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = new Map();

const LINES = {
  spend: { value: usd, series: [["spent", "--accent", true], ["premium only", "--other", false]] },
  requests: { value: rate, series: [["per second", "--accent", true]] },
  latency: { value: seconds, series: [["median", "--accent", false], ["90th percentile", "--other", false]] },
};

/** Draws columns of figures over `times` (epoch seconds); null is a gap. */
export function draw(id, times, columns) {
  const found = charts.get(id);
  if (found) {
    found.setData([times, ...columns]);
    return;
  }
  const { value, series } = LINES[id];
  const made = new uPlot(
    {
      width: $(id).clientWidth || 300,
      height: 190,
      cursor: { y: false },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      legend: { live: true },
      axes: [
        { stroke: () => colour("--soft"), grid: { show: false }, ticks: { show: false }, space: 90, size: 30, values: (_, at) => at.map((t) => clock(t).slice(0, 5)) },
        { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, size: 62, values: (_, at) => at.map(value) },
      ],
      series: [
        { label: "time", value: (_, at) => (at === null ? "" : clock(at)) },
        ...series.map(([label, shade, filled]) => ({
          label,
          stroke: () => colour(shade),
          fill: filled ? () => colour("--accent-soft") : undefined,
          width: 2,
          points: { show: false },
          value: (_, at) => (at === null ? "" : value(at)),
        })),
      ],
    },
    [times, ...columns],
    $(id),
  );
  charts.set(id, made);
  new ResizeObserver(() => made.setSize({ width: $(id).clientWidth, height: 190 })).observe($(id));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts.values()) chart.redraw(false, true);
});
