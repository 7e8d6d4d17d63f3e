// Shows one run after another with two answers, A and B, in random order, and stores which are right. A key is enough for each.
import { $, make, show, write } from "./markup.js";
import { count } from "./format.js";

const KEY = "cascade-key";
const CHOICES = { a: [1, 0], b: [0, 1], x: [1, 1], n: [0, 0] };
const ORDER = new URLSearchParams(location.search).get("order") === "random" ? "random" : "informative";
const skipped = [];
let current = null;
let busy = false;

async function fetched(path, body) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...(body ? { "Content-Type": "application/json" } : {}) };
  const response = await fetch(path, { method: body ? "POST" : "GET", headers, cache: "no-store", body: body && JSON.stringify(body) });
  const data = await response.json();
  if (response.status === 401 || response.status === 403) {
    show("login", true);
    $("key").focus();
  }
  if (!response.ok) throw new Error(data?.error?.message ?? `the gateway responded with status ${response.status}`);
  return data;
}

async function next() {
  const query = [`order=${ORDER}`, ...skipped.slice(-100).map((id) => `skip=${encodeURIComponent(id)}`)].join("&");
  const { waiting, case: found } = await fetched(`review/next?${query}`);
  current = found;
  const order = ORDER === "random" ? "by chance, the uncertain ones more often" : "the most informative first";
  write("waiting", waiting ? `${count(waiting)} ${waiting === 1 ? "run waits" : "runs wait"}, ${order}` : "");
  show("login", false);
  show("nothing", found === null);
  show("case", found !== null);
  if (found === null) return;
  $("prompt").replaceChildren(...found.messages.flatMap(message));
  write("prompt-title", `Prompt (policy ${found.policy})`);
  write("a", found.a || "(empty)");
  write("b", found.b || "(empty)");
  $("prompt-title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function message({ role, content }) {
  const parts = typeof content === "string" ? [content] : (content ?? []).map((part) => part.text ?? `(${part.type})`);
  return [make("span", role, "role"), make("div", parts.join("\n"))];
}

async function choose(key) {
  if (busy || current === null) return;
  busy = true;
  try {
    if (key === "s") skipped.push(current.run_id);
    else {
      const [a, b] = CHOICES[key];
      await fetched("review", { run_id: current.run_id, a, b, order: ORDER, chance: current.chance });
    }
    show("trouble", false);
    await next();
  } catch (error) {
    trouble(error);
  } finally {
    busy = false;
  }
}

function trouble(error) {
  show("trouble", true);
  write("trouble", error.message);
}

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target instanceof HTMLInputElement) return;
  if (key === "s" || key in CHOICES) {
    event.preventDefault();
    choose(key);
  }
});
for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", () => choose(button.dataset.key));
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  next().then(() => show("trouble", false), trouble);
});
$(ORDER).setAttribute("aria-current", "page");
next().catch(trouble);
