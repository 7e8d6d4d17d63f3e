// Reads the gateway's snapshots, one a second, and shows the latest.
import { $, bars, make, pill, show, table, write } from "./markup.js";
import { count, percent, rate, seconds, share, span, usd, words, DASH } from "./format.js";
import { draw } from "./charts.js";
import { list, opened } from "./runs.js";
import * as quality from "./quality.js";

const KEY = "cascade-key";
let last = null;
let paused = false;
let began = null;

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

class Refused extends Error {}

/** Reads the stream until it ends; throws Refused where a key is missing or may not see it. */
async function follow() {
  const response = await fetch("dashboard/events", { headers: { Accept: "text/event-stream", ...headers() }, cache: "no-store" });
  if (response.status === 401 || response.status === 403) throw new Refused((await response.json())?.error?.message ?? "this key may not see the dashboard");
  if (!response.ok) throw new Error(`the gateway responded with status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (data) showSnapshot(JSON.parse(data));
    }
  }
}

function showSnapshot(snapshot) {
  if (last === null) quality.begin(headers, open);
  last = snapshot;
  status("live", "good");
  if (!paused) render(snapshot);
}

function status(text, kind) {
  const element = $("state");
  write("state", paused && text === "live" ? "paused" : text);
  element.className = paused && text === "live" ? "pill" : `pill ${kind ?? ""}`;
}

async function run() {
  let pause = 500;
  for (;;) {
    began = Date.now();
    try {
      await follow();
      status("reconnecting", "warn");
    } catch (error) {
      if (error instanceof Refused) {
        login(sessionStorage.getItem(KEY) ? error.message : null);
        return;
      }
      status("no connection", "warn");
    }
    pause = Date.now() - began > 5000 ? 500 : Math.min(pause * 2, 10000);
    await new Promise((done) => setTimeout(done, pause));
  }
}

function login(refusal) {
  sessionStorage.removeItem(KEY);
  status("locked", null);
  quality.end();
  for (const id of ["live", "empty", "pause", "forget", "trouble", "verdict", "quality", "filters", "no-history"]) show(id, false);
  show("login", true);
  show("refused", refusal !== null);
  write("refused", refusal ?? "");
  $("key").focus();
}

function render(s) {
  show("login", false);
  show("forget", sessionStorage.getItem(KEY) !== null);
  const any = s.runs.total + s.runs.gates > 0;
  show("empty", !any);
  show("live", any);
  show("pause", any);
  troubles(s.policies);
  const { under_way, shed } = s.requests;
  // The page's own stream of snapshots is one of the requests in flight.
  write("where", `up for ${span(s.at - s.since)} · ${count(Math.max(0, under_way - 1))} in flight${shed ? ` · ${count(shed)} rejected` : ""}`);
  if (!any) {
    example();
    return;
  }
  headline(s);
  lines(s.history);
  splits(s);
  tables(s);
  list(s.latest, open);
}

function troubles({ error, unusable }) {
  show("trouble", error !== null);
  if (error !== null) write("trouble", `The changed policy file was not loaded; the previous one is in use.\n${error}`);
  const unusablePolicies = Object.entries(unusable);
  show("unusable", unusablePolicies.length > 0);
  write("unusable", unusablePolicies.map(([policy, reason]) => `The policy ${policy} cannot run: ${reason}.`).join("\n"));
}

function example() {
  const key = sessionStorage.getItem(KEY) ? ' -H "Authorization: Bearer $CASCADE_KEY"' : "";
  write("example", `curl ${location.origin}/v1/route${key} -H "Content-Type: application/json" \\\n  -d '{"prompt": "What is 17 * 3? Reply with the number only."}'`);
}

function headline({ runs, requests, spend, latency }) {
  write("saved", usd(spend.saved_usd));
  const lost = spend.unpriced_runs ? `; cost unknown for ${count(spend.unpriced_runs)} runs` : "";
  const less = spend.saved_share === null ? "" : ` (${percent(Math.abs(spend.saved_share))} ${spend.saved_share < 0 ? "more" : "less"})`;
  write("saved-note", spend.premium_usd === null ? `spent ${usd(spend.usd)}; the cost of premium only is unknown${lost}` : `spent ${usd(spend.compared_usd)} instead of ${usd(spend.premium_usd)} with premium only${less}${lost}`);
  write("rate", count(runs.total));
  write("rate-note", `${rate(requests.per_s)} per second${runs.gates ? `; ${count(runs.gates)} answers judged with /v1/gate` : ""}`);
  write("accepted", share(runs.accepted, runs.total));
  const unjudged = runs.unjudged ? `; ${count(runs.unjudged)} that no judge could score` : "";
  write("accepted-note", (runs.unanswered ? `${count(runs.unanswered)} without an answer` : "all were answered") + unjudged);
  write("median", seconds(latency.runs.p50));
  write("median-note", `90th percentile ${seconds(latency.runs.p90)}`);
}

function lines({ step_s, at, runs, usd: spent, premium_usd, p50_s, p90_s }) {
  const reach = span(at.length * step_s);
  write("spend-note", `USD per ${step_s} s, and the cost with the premium tier only; last ${reach}`);
  write("requests-note", `last ${reach}`);
  write("latency-note", `runs that ended within each ${step_s} s`);
  draw("spend", at, [spent, premium_usd]);
  draw("requests", at, [runs.map((n) => n / step_s)]);
  draw("latency", at, [p50_s, p90_s]);
}

/** The rows' amounts summed by name, as pairs. */
function summed(rows, name, amount) {
  const sums = new Map();
  for (const each of rows) sums.set(name(each), (sums.get(name(each)) ?? 0) + amount(each));
  return [...sums];
}

function splits(s) {
  const several = new Set(s.tiers.map(({ policy }) => policy)).size > 1;
  const answered = s.tiers.reduce((sum, { runs }) => sum + runs, 0);
  write("tiers-note", `${count(answered)} answers, cheapest tier first`);
  bars("tiers", s.tiers.map(({ policy, tier, runs }) => ({ label: several ? `${policy} / ${tier}` : tier, value: runs, text: share(runs, answered) })), answered);
  const reasons = (id, pairs, none, kind) => {
    const sorted = pairs.sort((a, b) => b[1] - a[1]);
    const total = sorted.reduce((sum, [, n]) => sum + n, 0);
    bars(id, sorted.map(([reason, n]) => ({ label: words(reason), value: n, text: `${count(n)} (${share(n, total)})`, kind: kind(reason) })), total);
    write(`${id}-note`, total ? `${count(total)} in total` : none);
  };
  const counted = ({ count: n }) => n;
  card("escalations", s.escalations.length > 0);
  card("tiers", answered > 0);
  card("confidence", s.confidence.length > 0);
  card("ends", s.endings.length > 0);
  reasons("escalations", summed(s.escalations, ({ reason }) => reason, counted), "never", () => null);
  reasons("ends", summed(s.endings, ({ reason }) => reason, counted), "no run has ended yet", (reason) => (reason === "accepted" ? null : "rest"));
  histogram(s.confidence);
}

function histogram(tiers) {
  const bins = tiers[0]?.counts.length ?? 20;
  const counts = Array.from({ length: bins }, (_, i) => tiers.reduce((sum, tier) => sum + tier.counts[i], 0));
  const most = Math.max(...counts, 1);
  write("confidence-note", `${count(counts.reduce((sum, n) => sum + n, 0))} of the latest answers, in steps of ${percent(1 / bins)}`);
  const columns = counts.map((n, i) => {
    const bar = make("div", null, ...(n ? [] : ["none"]));
    bar.style.height = `${(100 * n) / most}%`;
    bar.title = `${percent(i / bins)} to ${percent((i + 1) / bins)}: ${count(n)}`;
    return bar;
  });
  $("confidence").replaceChildren(...columns, make("span", "0 %", "low"), make("span", "50 %", "middle"), make("span", "100 %", "high"));
  $("confidence").setAttribute("role", "img");
  $("confidence").setAttribute("aria-label", `Histogram: ${counts.map((n, i) => (n ? `${percent(i / bins)}: ${n}` : "")).filter(Boolean).join(", ")}`);
}

function tables({ calibration, models, budgets }) {
  card("drift", calibration !== null);
  card("models", models.length > 0);
  card("budgets", budgets.length > 0);
  write("drift-note", calibration === null ? "" : `${count(calibration.n)} runs with feedback; their quality was ${points(calibration.gap)} than their confidence`);
  show("drift", calibration !== null);
  if (calibration !== null) {
    table("drift", [{ head: "confidence" }, { head: "mean confidence", number: true }, { head: "mean quality", number: true }, { head: "runs", number: true }], calibration.bins.map((bin) => [
      `from ${percent(bin.from)}`, percent(bin.confidence), percent(bin.quality), count(bin.n),
    ]));
  }
  table("models", [{ head: "model" }, { head: "breaker" }, { head: "failed", number: true }, { head: "in flight", number: true }, { head: "p95", number: true }], models.map((model) => [
    model.model, model.breaker === null ? DASH : pill(breakerWords(model), model.breaker === "closed" ? "good" : "warn"),
    model.requests ? `${count(model.failures)} of ${count(model.requests)}` : DASH, count(model.under_way), seconds(model.p95_s),
  ]));
  $("budgets").replaceChildren(...budgets.map(meter));
}

/** The worst state of a model's breakers, and in how many of the workers it is. */
function breakerWords({ breaker, breakers }) {
  const workers = Object.values(breakers).reduce((sum, n) => sum + n, 0);
  return workers > breakers[breaker] ? `${words(breaker)} in ${breakers[breaker]} of ${workers}` : words(breaker);
}

/** Hides the card of an element that has nothing to show. */
function card(id, shown) {
  $(id).closest("section").hidden = !shown;
}

function points(gap) {
  return `${rate(100 * Math.abs(gap))} points ${gap < 0 ? "lower" : "higher"}`;
}

function meter({ scope, usd_per_day, spent_usd, left_usd }) {
  const box = make("div", null, "meter");
  const track = make("div", null, "track");
  const fill = make("div", null, "fill", ...(left_usd !== null && left_usd <= 0.1 * usd_per_day ? ["over"] : []));
  fill.style.width = `${usd_per_day > 0 ? Math.min(100, (100 * spent_usd) / usd_per_day) : 100}%`;
  track.append(fill);
  track.setAttribute("role", "meter");
  track.setAttribute("aria-label", scope);
  track.setAttribute("aria-valuemin", "0");
  track.setAttribute("aria-valuemax", String(usd_per_day));
  track.setAttribute("aria-valuenow", String(spent_usd ?? 0));
  if (spent_usd === null) track.setAttribute("aria-valuetext", "unknown");
  const line = make("div", null, "line");
  line.append(make("span", scope), make("span", `${usd(spent_usd)} of ${usd(usd_per_day)}, ${usd(left_usd)} left`, "soft"));
  box.append(line, track);
  return box;
}

let openId = null;

async function open(id) {
  const dialog = $("run");
  openId = id;
  $("run-title").textContent = `Run ${id}`;
  $("run-body").replaceChildren(make("p", "Loading", "soft"));
  if (!dialog.open) dialog.showModal();
  try {
    const response = await fetch(`dashboard/runs/${encodeURIComponent(id)}`, { headers: headers() });
    const body = await response.json();
    if (!response.ok) throw new Error(body?.error?.message ?? `the gateway responded with status ${response.status}`);
    opened(body);
  } catch (error) {
    $("run-body").replaceChildren(make("p", `This run cannot be shown: ${error.message}`, "bad"));
  }
}

$("close").addEventListener("click", () => $("run").close());
// The button that opened it may have been replaced by a new one for the same run, which the browser does not know.
$("run").addEventListener("close", () => {
  if (document.activeElement === document.body && openId) document.querySelector(`[data-run="${CSS.escape(openId)}"]`)?.focus();
});
$("run").addEventListener("click", (event) => event.target === $("run") && $("run").close());
$("unsure").addEventListener("change", () => last && list(last.latest, open));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  write("pause", paused ? "Resume" : "Pause");
  status("live", "good");
  if (!paused && last) render(last);
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  show("login", false);
  status("connecting", null);
  run();
});
run();
