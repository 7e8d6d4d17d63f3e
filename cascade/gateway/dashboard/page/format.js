// Figures as text. An unknown figure is a dash, never 0.
export const DASH = "–";

const round = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function usd(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (size === 0) return "$0";
  const sign = value < 0 ? "-$" : "$";
  if (size >= 1000) return sign + round(size, 0);
  if (size >= 1) return sign + round(size, 2);
  // Two figures that count, however small: most runs cost less than a cent.
  return sign + size.toLocaleString("en", { maximumSignificantDigits: 2, maximumFractionDigits: 20 });
}

export function seconds(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${round(value * 1e6, 0)} µs`;
  if (value < 1) return `${round(value * 1e3, value < 0.01 ? 1 : 0)} ms`;
  return value < 120 ? `${round(value, value < 10 ? 2 : 0)} s` : `${round(value / 60, 0)} min`;
}

export function share(part, whole) {
  return whole > 0 ? percent(part / whole) : DASH;
}

export function percent(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  const text = round(100 * value, size < 0.0995 && size !== 0 && (100 * size) % 1 > 0.049 ? 1 : 0);
  return `${text} %`;
}

export function count(value) {
  return value === null || value === undefined ? DASH : round(value, 0);
}

export function rate(value) {
  return value === null || value === undefined ? DASH : round(value, value < 10 ? 1 : 0);
}

export function clock(epoch) {
  return new Date(epoch * 1000).toLocaleTimeString("en-GB");
}

/** A date, with its time where that is not midnight. */
export function day(epoch) {
  const at = new Date(epoch * 1000);
  const date = at.toLocaleDateString("en", { month: "short", day: "numeric" });
  return at.getHours() + at.getMinutes() === 0 ? date : `${date}, ${clock(epoch).slice(0, 5)}`;
}

const WORDS = { last_tier: "not judged (last tier)", unjudged: "not judged" };

export function words(reason) {
  return WORDS[reason] ?? reason.replaceAll("_", " ");
}

export function span(seconds) {
  if (seconds < 90) return `${round(seconds, 0)} s`;
  if (seconds < 5400) return `${round(seconds / 60, 0)} min`;
  return seconds < 129600 ? `${round(seconds / 3600, 0)} h` : `${round(seconds / 86400, 0)} days`;
}
