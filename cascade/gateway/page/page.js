// The dashboard: a snapshot a second by server-sent events. Read by fetch, since EventSource cannot send a key.
"use strict";

let last = null;
let wait = 1;
const times = [], medians = [], tails = [];
const rate = new Plot("rate-plot", [["runs", "--t0", true]], 262);
const latency = new Plot("latency-plot", [["median", "--t0", false], ["99 %", "--t1", false]], 170);

const headers = () => {
  const key = sessionStorage.getItem("cascade-key");
  return key ? { authorization: "Bearer " + key } : {};
};

const state = (name, text) => {
  const pill = $("link");
  if (pill.dataset.state !== name || pill.textContent !== text) [pill.dataset.state, pill.textContent] = [name, text];
};

const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

const colours = (tiers) => {
  const names = [];
  for (const { tier } of tiers) if (!names.includes(tier)) names.push(tier);
  return (tier) => Math.max(0, names.indexOf(tier));
};

function tiles(s) {
  const { runs, spend, requests, latency: l } = s;
  const answered = runs.total - runs.unanswered;
  set("since", "since " + new Date(s.since * 1000).toLocaleString([], { hour12: false }));
  set("per-s", requests.per_s.toFixed(requests.per_s < 10 ? 1 : 0));
  set("under-way", `${requests.under_way} under way, ${say.count(requests.shed)} turned away`);
  set("accepted", runs.total ? say.share(runs.accepted / runs.total) : "–");
  set("runs", `of ${say.count(runs.total)} runs, ${say.count(answered)} answered`);
  set("usd", runs.total ? say.usd(spend.usd) : "–");
  set("unpriced", spend.unpriced_runs ? `beside ${say.count(spend.unpriced_runs)} runs of unknown cost` : "every cost is known");
  set("saved", spend.saved_usd === null ? "–" : spend.saved_share === null ? say.usd(spend.saved_usd) : say.share(spend.saved_share));
  set("compared", spend.compared_runs ? `${say.usd(spend.saved_usd)} of ${say.usd(spend.premium_usd)}, estimated over ${say.count(spend.compared_runs)} runs` : "no run with known costs yet");
  set("p50", say.seconds(l.runs.p50));
  set("premium-p50", l.premium.n ? `premium, where it was asked: ${say.seconds(l.premium.p50)}` : "premium was not asked yet");
}

function plots(s) {
  const end = Math.floor(s.at), series = s.requests.series;
  rate.show([series.map((_, i) => end - series.length + i), series]);
  times.push(s.at); medians.push(s.latency.runs.p50); tails.push(s.latency.runs.p99);
  if (times.length > 600) [times, medians, tails].forEach((list) => list.shift());
  latency.show([[...times], [...medians], [...tails]]);
  $("latency").replaceChildren(...[["all runs", s.latency.runs], ["premium, where asked", s.latency.premium]].map(([name, l]) =>
    el("tr", {}, el("td", {}, name), ...["p50", "p90", "p99"].map((p) => el("td", {}, say.seconds(l[p]))), el("td", {}, say.count(l.n)))));
}

function cards(s) {
  const which = colours(s.tiers), several = new Set(s.tiers.map((t) => t.policy)).size > 1;
  $("tiers").replaceChildren(...(s.tiers.length ? s.tiers.map((t) =>
    bar(several ? `${t.policy} / ${t.tier}` : t.tier, `${say.share(t.share)} · ${say.count(t.runs)}`, t.share, which(t.tier))) : [empty("Nobody yet.")]));
  const most = Math.max(...s.escalations.map((e) => e.count), 1);
  $("why").replaceChildren(...(s.escalations.length ? s.escalations.slice(0, 8).map((e) =>
    bar(`${e.tier}: ${say.word(e.reason)}`, say.count(e.count), e.count / most, which(e.tier))) : [empty("No tier was given up for the next one.")]));
  $("confidence").replaceChildren(...(s.confidence.length ? s.confidence.map((c) => histogram(c.tier, c.counts, which(c.tier))) : [empty("No answers yet.")]));
  const c = s.calibration;
  $("calibration").replaceChildren(...(c ? [
    el("p", {}, el("strong", { class: Math.abs(c.gap) < 0.05 ? "yes" : "hm" }, (c.gap >= 0 ? "+" : "−") + Math.abs(c.gap).toFixed(3)),
      ` proved right less confidence, over ${say.count(c.n)} runs with feedback` + (c.gap < -0.05 ? ": too sure of itself" : "")),
    reliability(c.bins)] : [empty("No feedback yet. POST /v1/feedback tells what proved true of a run.")]));
  $("models").replaceChildren(...(s.models.length ? [el("table", {}, el("thead", {}, el("tr", {}, ...["model", "breaker", "failed", "95 %"].map((h) => el("th", {}, h)))),
    el("tbody", {}, ...s.models.map((m) => el("tr", {}, el("td", {}, m.model),
      el("td", { class: m.breaker === "open" ? "no" : m.breaker === "half_open" ? "hm" : "yes" }, m.breaker === null ? "none" : say.word(m.breaker)),
      el("td", {}, `${m.failures} of ${m.requests}`), el("td", {}, say.seconds(m.p95_s))))))] : [empty("No model was asked yet.")]));
  $("budgets").replaceChildren(...(s.budgets.length ? s.budgets.map((b) =>
    bar(b.scope, `${say.usd(b.left_usd)} left of ${say.usd(b.usd_per_day)}`, b.usd_per_day ? b.spent_usd / b.usd_per_day : 1, b.left_usd > 0 ? 0 : 1)) : [empty("No budget is set.")]));
}

const verdict = (run) => (run.kind === "gate" ? "gate: " : "") + (run.accepted ? "accepted" : say.word(run.reason));

function latest(s) {
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.run : undefined;
  const heads = [["at", ""], ["run", ""], ["policy", ""], ["tier", ""], ["", ""], ["confidence", "num"], ["cost", "num"], ["premium", "num"], ["latency", "num"]];
  $("latest").replaceChildren(s.latest.length ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Latest runs" },
    el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([h, c]) => el("th", { class: c }, h)))), el("tbody", {}, ...s.latest.slice(0, 25).map((r) => el("tr", {},
      el("td", {}, say.time(r.at)),
      el("td", { class: "mono" }, r.run_id ? el("button", { "data-run": r.run_id, onclick: () => open_run(r.run_id), "aria-label": "Open run " + r.run_id }, r.run_id.slice(0, 13)) : "–"),
      el("td", {}, r.policy), el("td", {}, r.tier ?? "none"), el("td", { class: r.accepted ? "yes" : "no" }, verdict(r)),
      el("td", { class: "num" }, r.confidence === null ? "–" : r.confidence.toFixed(3)), el("td", { class: "num" }, say.usd(r.cost_usd)),
      el("td", { class: "num" }, say.usd(r.premium_usd)), el("td", { class: "num" }, say.seconds(r.latency_s)))))))
    : empty("No runs yet. Send one:", el("pre", {}, el("code", {}, `curl ${location.origin}/v1/route -H 'content-type: application/json' \\\n  -d '{"prompt": "What is the capital of France? Reply with the answer only."}'`))));
  if (focused) document.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
}

function notices(s) {
  const told = [];
  if (s.policies.error) told.push(el("div", { class: "notice bad" }, `The policy file as it stands is not in service, the one before is:\n${s.policies.error}`));
  for (const [name, why] of Object.entries(s.policies.unusable)) told.push(el("div", { class: "notice" }, `Policy ${name} cannot be asked: ${why}`));
  const key = told.map((t) => t.textContent).join("\n");
  if ($("notices").dataset.key !== key) { $("notices").dataset.key = key; $("notices").replaceChildren(...told); }
}

function show(s) {
  last = s;
  state("live", "live");
  tiles(s); plots(s); cards(s); notices(s);
  if (!$("run").open) latest(s);
}

const pairs = (list) => el("dl", { class: "pairs" }, ...list.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

function step(a, i) {
  const said = (a.verdicts ?? []).map((v) => el("tr", {}, el("td", {}, v.judge),
    el("td", { class: v.veto ? "no" : "" }, v.veto ? "veto" : v.score === null ? "cannot tell, or lets pass" : v.score.toFixed(3)), el("td", {}, v.reason ?? "")));
  return el("section", { class: "step" }, el("h3", {}, `${i + 1}. ${a.tier} (${a.model})`),
    pairs([["ended", say.word(a.reason) + (a.error ? `: ${a.error}` : "")], ["confidence", a.confidence.toFixed(3) + (a.calibrated ? ", calibrated" : "")],
      ["cost", say.usd(a.cost_usd) + `, of which judging ${say.usd(a.judge_cost_usd)}`], ["latency", say.seconds(a.latency_s)], ["answers asked", String(a.calls)]]),
    said.length ? el("table", {}, el("thead", {}, el("tr", {}, ...["judge", "verdict", "reason"].map((h) => el("th", {}, h)))), el("tbody", {}, ...said)) : el("p", { class: "quiet" }, "No judge spoke."));
}

async function open_run(id) {
  set("run-title", "Run " + id);
  $("run-body").replaceChildren(empty("Loading …"));
  $("run").showModal();
  try {
    const response = await fetch("/dashboard/runs/" + id, { headers: headers() });
    const r = await response.json();
    if (!response.ok) throw new Error(r.error.message);
    $("run-body").replaceChildren(pairs([["policy", r.policy], ["ended", `${verdict(r)} at ${say.time(r.at)}`], ["answered by", r.tier ? `${r.tier} (${r.model})` : "nobody"],
      ["confidence", r.confidence === null ? "–" : r.confidence.toFixed(3)], ["cost", say.usd(r.cost_usd)], ["premium only", r.premium_usd === null ? "unknown" : say.usd(r.premium_usd) + ", estimated"],
      ["latency", say.seconds(r.latency_s)], ["told by", r.source === "journal" ? "the journal" : "memory; a journal would keep reasons and requests"]]), ...r.attempts.map(step));
  } catch (error) {
    $("run-body").replaceChildren(empty("It cannot be shown: " + error.message));
  }
}
$("run").addEventListener("close", () => last && latest(last));

function ask_key(why) {
  state("wait", "needs a key");
  if (why) set("ask-why", why);
  if (!$("ask").open) $("ask").showModal();
  $("key").focus();
}
$("ask").addEventListener("cancel", (event) => event.preventDefault());
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("cascade-key", $("key").value.trim());
  $("key").value = "";
  $("ask").close();
  watch();
});

async function watch() {
  try {
    const response = await fetch("/dashboard/events", { headers: headers() });
    if (response.status === 401 || response.status === 403) {
      const told = (await response.json()).error.message;
      const had = sessionStorage.getItem("cascade-key");
      sessionStorage.removeItem("cascade-key");
      return ask_key(had ? told : null);
    }
    if (!response.ok) throw new Error((await response.json()).error.message);
    wait = 1;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (kept + value).split("\n\n");
      kept = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) show(JSON.parse(data.slice(6)));
      }
    }
    throw new Error("the gateway stopped");
  } catch (error) {
    state("lost", `not connected, again in ${wait} s`);
    $("link").title = error.message;
    setTimeout(watch, wait * 1000);
    wait = Math.min(30, wait * 2);
  }
}
watch();
