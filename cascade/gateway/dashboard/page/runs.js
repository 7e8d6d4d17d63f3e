// The latest runs, and the details of one of them.
import { $, facts, make, pill, show, table } from "./markup.js";
import { clock, count, day, percent, seconds, usd, words, DASH } from "./format.js";

export const COLUMNS = [
  { head: "time" }, { head: "policy", minor: true }, { head: "answered by" }, { head: "confidence", number: true }, { head: "ended" },
  { head: "cost", number: true }, { head: "latency", number: true, minor: true },
];

export function list(runs, open) {
  const shown = $("unsure").checked ? runs.filter((run) => !run.accepted) : runs;
  show("no-runs", shown.length === 0);
  show("latest", shown.length > 0);
  // The keyboard focus must survive the rebuilt table.
  const focused = document.activeElement?.dataset?.run;
  table("latest", [...COLUMNS, { head: "tiers", number: true, minor: true }], shown.map((run) => [...rowOf(run, open, clock(run.at)), count(run.tiers)]));
  if (focused) document.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
}

/** The cells of a run in a table; its time opens it. */
export function rowOf(run, open, time = day(run.at)) {
  const opener = make("button", time, "link");
  opener.type = "button";
  opener.dataset.run = run.run_id;
  opener.setAttribute("aria-label", `Open the run of ${time}`);
  opener.addEventListener("click", () => open(run.run_id));
  return [
    opener, run.policy, run.tier ?? DASH, run.tier === null ? DASH : percent(run.confidence), ending(run),
    usd(run.cost_usd), seconds(run.latency_s),
  ];
}

function ending(run) {
  return pill(words(run.reason), run.accepted ? "good" : run.tier === null ? "warn" : null);
}

export function opened(run) {
  $("run-title").textContent = `Run ${run.run_id}`;
  const body = $("run-body");
  const premium = run.premium_usd === null || run.premium_usd === undefined ? DASH : usd(run.premium_usd);
  body.replaceChildren(facts([
    ["time", clock(run.at)], ["policy", run.policy], ["ended", ending(run)],
    ["confidence", run.tier === null ? DASH : percent(run.confidence)],
    ["cost", `${usd(run.cost_usd)}, premium only ${premium}`], ["latency", seconds(run.latency_s)],
  ]));
  if (run.error) body.append(make("p", run.error, "bad"));
  run.attempts.forEach((attempt, i) => body.append(attempted(attempt, i)));
  if (run.attempts.length === 0) body.append(make("p", "No tier was called.", "soft"));
}

function attempted(attempt, i) {
  const box = make("section", null, "attempt");
  const line = make("div", null, "line");
  line.append(make("h3", `${i + 1}. ${attempt.tier} (${attempt.model})`), pill(words(attempt.reason), attempt.reason === "accepted" ? "good" : null));
  box.append(line, make("p", `confidence ${percent(attempt.confidence)}${attempt.calibrated ? "" : ", not calibrated"} · ${usd(attempt.cost_usd)} · ${seconds(attempt.latency_s)}${attempt.cluster == null ? "" : ` · vote for answer ${attempt.cluster + 1}`}`, "soft"));
  if (attempt.error) box.append(make("p", attempt.error, "bad"));
  if ((attempt.verdicts ?? []).length) {
    const rows = box.appendChild(make("div", null, "scroll")).appendChild(make("table"));
    table(rows, [{ head: "judge" }, { head: "score", number: true }, { head: "reason" }], attempt.verdicts.map((verdict) => [
      verdict.judge, verdict.score === null || verdict.score === undefined ? DASH : verdict.score.toFixed(3), verdict.veto ? pill(verdict.reason || "veto", "warn") : verdict.reason || "",
    ]));
  }
  if ((attempt.call_log ?? []).length) {
    const rows = box.appendChild(make("div", null, "scroll")).appendChild(make("table"));
    table(rows, [{ head: "request" }, { head: "for" }, { head: "started", number: true }, { head: "took", number: true }, { head: "cost", number: true }], attempt.call_log.map((call) => [
      call.fault ? pill(`${call.model}: ${call.fault}`, "warn") : call.model, call.purpose, seconds(call.started_s), seconds(call.latency_s), usd(call.cost_usd),
    ]));
  }
  return box;
}
