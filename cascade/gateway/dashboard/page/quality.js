// Quality first: whether promises hold, quality beside savings, how runs ended; from the journal, of some days.
import { $, bars, make, show, table, write } from "./markup.js";
import { count, percent, seconds, share, usd, day, DASH } from "./format.js";
import { draw } from "./charts.js";
import { COLUMNS, rowOf } from "./runs.js";

const OUTCOMES = { accepted: "accepted", unscored: "no judge could score it", "not accepted": "not accepted", stopped: "stopped by a budget or cap", unanswered: "no answer" };
const EVERY_MS = 15000;
let headers = () => ({});
let openRun = () => {};
let timer = null;
let latest = 0;

/** Starts reading; `auth` gives the headers, `open` shows a run. */
export function begin(auth, open) {
  headers = auth;
  openRun = open;
  if (timer === null) timer = setInterval(read, EVERY_MS);
  read();
}

export function end() {
  clearInterval(timer);
  timer = null;
}

function chosen(extra = {}) {
  const values = { days: $("days").value, policy: $("policy").value, task: $("task").value, caller: $("caller").value, tag: $("tag").value.trim(), ...extra };
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null));
}

async function fetched(path) {
  const response = await fetch(path, { headers: headers(), cache: "no-store" });
  const body = await response.json();
  if (!response.ok) throw new Error(body?.error?.message ?? `the gateway responded with status ${response.status}`);
  return body;
}

async function read() {
  const turn = ++latest;
  try {
    const body = await fetched(`dashboard/quality?${chosen()}`);
    if (turn === latest) render(body);
  } catch (error) {
    if (turn !== latest) return;
    show("quality-trouble", true);
    write("quality-trouble", `The quality figures cannot be read: ${error.message}`);
  }
}

function render(q) {
  show("quality-trouble", false);
  verdict(q.status);
  const any = q.source !== null && q.runs > 0;
  show("quality", any);
  show("filters", q.source !== null);
  show("no-history", q.source !== null && q.runs === 0);
  if (q.source === null) return;
  options("policy", q.filters.policy, "all policies");
  options("task", q.filters.task, "all tasks");
  options("caller", q.filters.caller, "all keys");
  if (!any) return;
  figures(q);
  outcomes(q);
  lines(q);
}

function verdict({ level, title, alarms }) {
  const box = $("verdict");
  box.className = `verdict ${level}`;
  write("verdict-title", title);
  $("verdict-list").replaceChildren(...alarms.map((alarm) => {
    const item = make("li", null, alarm.level);
    if (alarm.link === "outcome") item.append(link(alarm.text, { outcome: alarm.outcome }, alarm.text));
    else if (alarm.link === "labels") item.append(link(alarm.text, { policy: alarm.policy, labelled: "1", order: "loss" }, alarm.text));
    else item.textContent = alarm.text;
    return item;
  }));
  show("verdict", true);
}

function options(id, names, all) {
  const select = $(id);
  const known = [...select.options].map((option) => option.value).join("\n");
  if (known === ["", ...names].join("\n")) return;
  const before = select.value;
  select.replaceChildren(new Option(all, ""), ...names.map((name) => new Option(name, name)));
  if (names.includes(before)) select.value = before;
  show(`${id}-field`, names.length > 1 || before !== "");
}

const points = (value) => `${(100 * value + 0).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" })}`;

/** A figure that opens the runs behind it. */
function figure(id, text, extra, title) {
  const button = make("button", text, "figure");
  button.type = "button";
  button.setAttribute("aria-label", `${text}: ${title}`);
  button.addEventListener("click", () => list(title, extra));
  $(id).classList.toggle("words", text === "not measured");
  const before = $(id).firstElementChild;
  const had = before !== null && document.activeElement === before;
  $(id).replaceChildren(button);
  if (had) button.focus();
}

function figures({ quality, savings, outcomes: by, runs, latency }) {
  const { labels, loss, loss_low, loss_high } = quality;
  figure("loss", loss === null ? "not measured" : `${points(-loss)} points`, { labelled: "1", order: "loss" }, "graded runs, the largest losses first");
  write("loss-note", loss === null ? "Quality against premium only needs shadow and cascade grade-shadows." : `against premium only; 95 % interval ${points(-loss_high)} to ${points(-loss_low)}; ${count(labels)} graded runs`);
  figure("kept", savings.share === null ? DASH : percent(savings.share), {}, "all runs");
  const range = savings.share_low === null ? "" : `95 % interval ${percent(savings.share_low)} to ${percent(savings.share_high)}; `;
  const lost = savings.unpriced_runs ? `; cost unknown for ${count(savings.unpriced_runs)} runs` : "";
  write("kept-note", savings.premium_usd === null ? `spent ${usd(savings.usd)}; the cost of premium only is unknown${lost}` : `${range}${usd(savings.cost_usd)} instead of ${usd(savings.premium_usd)} (estimate) for good answers${lost}`);
  figure("good", share(by.accepted, runs), { outcome: "accepted" }, "accepted runs");
  write("good-note", `${count(by.accepted)} of ${count(runs)} runs; the others are no success`);
  const { p50 } = latency.runs;
  figure("same", latency.pairs ? seconds(p50) : "not measured", {}, "all runs");
  write("same-note", latency.pairs ? `median; premium only ${seconds(latency.premium.p50)} on the same ${count(latency.pairs)} prompts` : "Premium's latency on the same prompts needs shadow.");
}

function outcomes({ outcomes: by, runs }) {
  const rows = Object.entries(by).filter(([, n]) => n > 0);
  bars("outcomes", rows.map(([outcome, n]) => ({ label: link(OUTCOMES[outcome], { outcome }, OUTCOMES[outcome]), value: n, text: `${count(n)} (${share(n, runs)})`, kind: outcome === "accepted" ? null : outcome === "stopped" || outcome === "unanswered" ? "over" : "rest" })), runs);
}

function link(text, extra, title) {
  const button = make("button", text, "link");
  button.type = "button";
  button.addEventListener("click", () => list(title, extra));
  return button;
}

function lines({ history, step_s }) {
  const { at, usd: spent, premium_usd, accepted, loss, runs } = history;
  const unit = step_s === 86400 ? "day" : `${step_s / 3600} h`;
  const dated = loss.some((value) => value !== null);
  draw("money", at, [spent, premium_usd]);
  write("money-note", `USD per ${unit}: ${usd(sum(spent))} spent, ${usd(sum(premium_usd))} with premium only`);
  draw("success", at, [accepted]);
  write("success-note", `share of the runs that were accepted, per ${unit}; ${count(sum(runs))} runs`);
  show("losses-card", dated);
  if (dated) {
    draw("losses", at, [loss.map((value) => (value === null ? null : 0 - 100 * value))]);
    write("losses-note", `points of quality against premium only, per ${unit}, by graded runs`);
  }
  for (const id of ["money", "success", "losses"]) {
    $(id).onclick = () => {
      const step = Number($(id).dataset.step ?? -1);
      if (step >= 0) list(`runs of ${day(at[step])}`, { step });
    };
  }
}

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);

async function list(title, extra) {
  const dialog = $("some");
  $("some-title").textContent = title[0].toUpperCase() + title.slice(1);
  $("some-body").replaceChildren(make("p", "Loading", "soft"));
  if (!dialog.open) dialog.showModal();
  try {
    const { runs } = await fetched(`dashboard/quality/runs?${chosen(extra)}`);
    const note = make("p", runs.length ? `${count(runs.length)} runs${runs.length === 100 ? ", further ones are left out" : ""}; the filters of the page apply.` : "No such runs.", "soft");
    const box = make("div", null, "scroll");
    const rows = box.appendChild(make("table"));
    if (runs.length) table(rows, [...COLUMNS, { head: "points lost", number: true }], runs.map((run) => [...rowOf(run, openRun), run.loss === null ? DASH : points(run.loss)]));
    $("some-body").replaceChildren(note, box);
  } catch (error) {
    $("some-body").replaceChildren(make("p", `These runs cannot be shown: ${error.message}`, "bad"));
  }
}

for (const id of ["days", "policy", "task", "caller", "tag"]) $(id).addEventListener("change", read);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("some-close").addEventListener("click", () => $("some").close());
$("some").addEventListener("click", (event) => event.target === $("some") && $("some").close());
