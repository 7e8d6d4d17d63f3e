// Reads the gateway's snapshots, one a second, and shows the latest.
import { $, bars, facts, make, pill, show, table, write } from "./markup.js";
import { count, percent, rate, seconds, share, span, usd, words, DASH } from "./format.js";
import { draw } from "./charts.js";
import { list, opened } from "./runs.js";

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
  if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (data) heard(JSON.parse(data));
    }
  }
}

function heard(snapshot) {
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
  for (const id of ["live", "empty", "pause", "forget", "trouble"]) show(id, false);
  show("login", true);
  show("refused", refusal !== null);
  write("refused", refusal ?? "");
  $("key").focus();
}

function render(s) {
  show("login", false);
  show("forget", sessionStorage.getItem(KEY) !== null);
  const any = s.totals.runs > 0;
  show("empty", !any);
  show("live", any);
  show("pause", any);
  show("trouble", s.policies.error !== null);
  if (s.policies.error !== null) write("trouble", `The changed policy file was not taken; the one before it is in use.\n${s.policies.error}`);
  write("where", `${s.policies.file ?? "built-in policies"}: ${s.policies.names.join(", ")} · up for ${span(s.uptime_s)} · ${count(s.load.in_flight)} under way${s.load.shed ? ` · ${count(s.load.shed)} turned away` : ""}`);
  if (!any) {
    example();
    return;
  }
  headline(s);
  lines(s);
  splits(s);
  tables(s);
  list(s.runs, open);
}

function example() {
  const key = sessionStorage.getItem(KEY) ? ' -H "Authorization: Bearer $CASCADE_KEY"' : "";
  write("example", `curl ${location.origin}/v1/route${key} -H "Content-Type: application/json" \\\n  -d '{"prompt": "What is 17 * 3? Reply with the number only."}'`);
}

function headline({ totals, series, latency }) {
  write("saved", usd(totals.saved_usd));
  const lost = totals.unknown_cost ? `; the cost of ${count(totals.unknown_cost)} runs is not known` : "";
  write("saved-note", totals.premium_usd === null ? `spent ${usd(totals.cost_usd)}; what premium only would cost is not known${lost}` : `spent ${usd(totals.cost_usd)} of ${usd(totals.premium_usd)} by premium only (${share(totals.saved_usd ?? 0, totals.premium_usd)} less)${lost}`);
  // The step that is under way is not whole yet.
  const whole = series.requests.slice(0, -1);
  write("rate", count(totals.runs));
  write("rate-note", `${rate(whole.length ? whole.at(-1) / series.step_s : null)} a second`);
  write("accepted", share(totals.accepted, totals.runs));
  write("accepted-note", totals.failed ? `${count(totals.failed)} without an answer` : "every one got an answer");
  write("median", seconds(latency.p50_s));
  write("median-note", `95th percentile ${seconds(latency.p95_s)}`);
}

function lines({ series }) {
  const per = (values) => values.map((value) => (value === null ? null : value / series.step_s));
  const reach = span(series.t.length * series.step_s);
  write("spend-note", `USD in each ${series.step_s} s, beside what the premium tier alone would have cost; the last ${reach}`);
  write("requests-note", `the last ${reach}`);
  write("latency-note", `of the runs that ended in each ${series.step_s} s`);
  draw("spend", series.t, [series.cost_usd, series.premium_usd]);
  draw("requests", series.t, [per(series.requests)]);
  draw("latency", series.t, [series.p50_s, series.p95_s]);
}

function splits(s) {
  const answered = s.tiers.reduce((sum, tier) => sum + tier.answered, 0);
  write("tiers-note", `${count(answered)} answers, cheapest tier first`);
  bars("tiers", s.tiers.map((tier) => ({ label: tier.tier, value: tier.answered, text: share(tier.answered, answered) })), answered);
  const reasons = (id, found, none, kind) => {
    const told = Object.entries(found).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    const total = told.reduce((sum, [, n]) => sum + n, 0);
    bars(id, told.map(([reason, n]) => ({ label: words(reason), value: n, text: `${count(n)} (${share(n, total)})`, kind: kind(reason) })), total);
    write(`${id}-note`, total ? `${count(total)} in all` : none);
  };
  reasons("escalations", s.escalations, "it never was", () => null);
  reasons("ends", s.ends, "none ended yet", (reason) => (reason === "accepted" ? null : "rest"));
  const { counts } = s.confidence;
  const most = Math.max(...counts, 1);
  const total = counts.reduce((sum, n) => sum + n, 0);
  write("confidence-note", `${count(total)} answers, in steps of ${percent(1 / counts.length)}`);
  const columns = counts.map((n, i) => {
    const bar = make("div", null, ...(n ? [] : ["none"]));
    bar.style.height = `${(100 * n) / most}%`;
    bar.title = `${percent(i / counts.length)} to ${percent((i + 1) / counts.length)}: ${count(n)}`;
    return bar;
  });
  $("confidence").replaceChildren(...columns, make("span", "0 %", "low"), make("span", "50 %", "middle"), make("span", "100 %", "high"));
  $("confidence").setAttribute("role", "img");
  $("confidence").setAttribute("aria-label", `Histogram: ${counts.map((n, i) => (n ? `${percent(i / counts.length)}: ${n}` : "")).filter(Boolean).join(", ")}`);
}

function tables(s) {
  const { latency, totals } = s;
  const row = (name, ours, theirs, text) => [name, text(ours), text(theirs)];
  table("against", [{ head: `${count(latency.n)} runs` }, { head: "cascade", number: true }, { head: "premium only", number: true }], [
    row("spend", totals.cost_usd, totals.premium_usd, usd), row("median latency", latency.p50_s, latency.premium_p50_s, seconds),
    row("95th percentile", latency.p95_s, latency.premium_p95_s, seconds), row("99th percentile", latency.p99_s, latency.premium_p99_s, seconds),
  ]);
  write("drift-note", s.drift.length ? "What runs promised beside what feedback says they were worth" : "No feedback yet. POST /v1/feedback says how good an answer was.");
  $("drift").replaceChildren(...s.drift.map(({ policy, n, confidence, quality }) => facts([
    [policy, `${percent(confidence)} promised, ${percent(quality)} true, ${count(n)} runs with feedback`],
  ])));
  table("models", [{ head: "model" }, { head: "breaker" }, { head: "failed", number: true }, { head: "under way", number: true }, { head: "p95", number: true }], s.models.map((model) => [
    model.model, model.state === null ? DASH : pill(words(model.state), model.state === "closed" ? "good" : "warn"),
    model.requests ? `${count(model.failures)} of ${count(model.requests)}` : DASH, count(model.in_flight), seconds(model.p95_s),
  ]));
  $("budgets").replaceChildren(...(s.budgets.length ? s.budgets.map(({ scope, limit_usd, spent_usd }) => {
    const box = make("div", null, "meter");
    const track = make("div", null, "track");
    const fill = make("div", null, "fill", ...(spent_usd >= 0.9 * limit_usd ? ["over"] : []));
    fill.style.width = `${limit_usd > 0 ? Math.min(100, (100 * spent_usd) / limit_usd) : 100}%`;
    track.append(fill);
    track.setAttribute("role", "meter");
    track.setAttribute("aria-label", scope);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", String(limit_usd));
    track.setAttribute("aria-valuenow", String(spent_usd));
    const line = make("div", null, "line");
    line.append(make("span", scope), make("span", `${usd(spent_usd)} of ${usd(limit_usd)}, ${usd(Math.max(0, limit_usd - spent_usd))} left`, "soft"));
    box.append(line, track);
    return box;
  }) : [make("p", "No daily budget is set: budget_usd_per_day in the policy file.", "soft")]));
}

async function open(id) {
  const dialog = $("run");
  $("run-title").textContent = `Run ${id}`;
  $("run-body").replaceChildren(make("p", "Loading", "soft"));
  if (!dialog.open) dialog.showModal();
  try {
    const response = await fetch(`dashboard/runs/${encodeURIComponent(id)}`, { headers: headers() });
    const body = await response.json();
    if (!response.ok) throw new Error(body?.error?.message ?? `the gateway answered ${response.status}`);
    opened(body);
  } catch (error) {
    $("run-body").replaceChildren(make("p", `This run cannot be shown: ${error.message}`, "bad"));
  }
}

$("close").addEventListener("click", () => $("run").close());
$("run").addEventListener("click", (event) => event.target === $("run") && $("run").close());
$("unsure").addEventListener("change", () => last && list(last.runs, open));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  write("pause", paused ? "Go on" : "Pause");
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
