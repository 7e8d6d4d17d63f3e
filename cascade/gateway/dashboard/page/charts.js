// The three lines over time, by uPlot.
import { $, make } from "./markup.js";
import { clock, day, percent, rate, seconds, usd } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = new Map();

const LINES = {
  spend: { value: usd, series: [["spent", "--accent", true], ["premium only", "--other", false]] },
  requests: { value: rate, series: [["per second", "--accent", true]] },
  money: { value: usd, series: [["spent", "--accent", true], ["premium only", "--other", false]], days: true },
  success: { value: percent, series: [["accepted", "--accent", true]], days: true, most: 1 },
  losses: { value: rate, series: [["points", "--accent", false]], days: true, signed: true },
  latency: { value: seconds, series: [["median", "--accent", false], ["90th percentile", "--other", false]] },
};

/** The legend shows the latest known values while no pointer is over the chart. */
function showLast(u) {
  const rows = u.data.slice(1);
  let last = u.data[0].length - 1;
  while (last > 0 && rows.every((row) => row[last] === null)) last -= 1;
  u.setLegend({ idx: last });
}

/** Where a value has none beside it: no line goes through it, so it gets a point. */
function lonely(values) {
  const known = (i) => values[i] !== null && values[i] !== undefined;
  return values.flatMap((_, i) => (known(i) && !known(i - 1) && !known(i + 1) ? [i] : []));
}

/** Draws columns of figures over `times` (epoch seconds); null is a gap. */
export function draw(id, times, columns) {
  const found = charts.get(id);
  if (found) {
    found.setData([times, ...columns]);
    return;
  }
  const { value, series, days, most, signed } = LINES[id];
  const bottom = (low) => (signed ? Math.min(low * 1.1, -1) : 0);
  const made = new uPlot(
    {
      width: $(id).clientWidth || 300,
      height: 190,
      cursor: { y: false },
      hooks: { setCursor: [(u) => { $(id).dataset.step = String(u.cursor.idx ?? -1); }], ready: [(u) => showLast(u)], setData: [(u) => showLast(u)] },
      scales: { x: { time: true }, y: { range: (_, low, high) => [bottom(low ?? 0), most ?? (high > 0 ? high * 1.1 : 1)] } },
      legend: { live: true },
      axes: [
        { stroke: () => colour("--soft"), grid: { show: false }, ticks: { show: false }, space: 90, size: 30, values: (_, at) => at.map((t) => (days ? day(t) : clock(t).slice(0, 5))) },
        { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, size: 62, values: (_, at) => at.map(value) },
      ],
      series: [
        { label: "time", value: (_, at) => (at === null ? "" : days ? day(at) : clock(at)) },
        ...series.map(([label, shade, filled]) => ({
          label,
          stroke: () => colour(shade),
          fill: filled ? () => colour("--accent-soft") : undefined,
          width: 2,
          points: days ? { show: true } : { show: true, filter: (u, i) => lonely(u.data[i]) },
          value: (_, at) => (at === null ? "" : value(at)),
        })),
      ],
    },
    [times, ...columns],
    $(id),
  );
  charts.set(id, made);
  byKeys(id, made);
  new ResizeObserver(() => made.setSize({ width: $(id).clientWidth, height: 190 })).observe($(id));
}

/** Arrow keys, Home and End move through time as a pointer does, and say the values; Enter does what a click does. */
function byKeys(id, u) {
  const plot = $(id);
  const title = plot.closest("section")?.querySelector("h2")?.textContent ?? "Chart";
  const spoken = plot.appendChild(make("span", null, "spoken"));
  spoken.setAttribute("role", "status");
  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", `${title}: arrow keys move through time${LINES[id].days ? ", Enter shows the runs" : ""}`);
  plot.addEventListener("keydown", (event) => {
    const last = u.data[0].length - 1;
    const at = Number(plot.dataset.step ?? -1);
    const from = at < 0 ? last + 1 : at;
    const to = { ArrowLeft: Math.max(0, from - 1), ArrowRight: Math.min(last, from + 1), Home: 0, End: last }[event.key];
    if (event.key === "Enter" && at >= 0 && plot.onclick) plot.onclick();
    else if (to !== undefined && last >= 0) {
      u.setCursor({ left: u.valToPos(u.data[0][to], "x"), top: 0 });
      spoken.textContent = u.series.map(({ label, value }, i) => `${label} ${value(u, u.data[i][to]) || "unknown"}`).join(", ");
    } else return;
    event.preventDefault();
  });
  plot.addEventListener("blur", () => {
    u.setCursor({ left: -10, top: -10 });
    showLast(u);
  });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts.values()) chart.redraw(false, true);
});
