// Small helpers for elements. Text is always set as text: nothing that an agent wrote becomes markup.

/** `h("a.link", {href: "#/"}, "text", child)`. A property that starts with `on` is a listener. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const none = () => h("span.none", {}, "–");

/** A number as people read it. */
export function count(number) {
  return Number(number ?? 0).toLocaleString("en");
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  if (size < 1 << 20) return `${(size / 1024).toFixed(1)} KiB`;
  return `${(size / (1 << 20)).toFixed(1)} MiB`;
}

/** Milliseconds as people read them. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** SQLite's own form has no zone; it means UTC. */
function instant(text) {
  const iso = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/.test(text) ? `${text.replace(" ", "T")}Z` : text;
  return Date.parse(iso);
}

function relative(at) {
  const ago = Date.now() - at;
  if (Math.abs(ago) < 2000) return "now";
  return ago > 0 ? `${duration(ago)} ago` : `in ${duration(-ago)}`;
}

/** A time, relative, with the exact one as its title. */
export function time(text) {
  if (!text) return none();
  const at = instant(text);
  if (Number.isNaN(at)) return h("span.mono", {}, text);
  const exact = new Date(at).toISOString();
  return h("time", { datetime: exact, title: exact, "data-at": String(at) }, relative(at));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-at]")) {
    const text = relative(Number(element.dataset.at));
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

const TONES = {
  delivered: "good", ok: "good", active: "good", running: "good", sent: "good", done: "good", closed: "quiet",
  queued: "info", sending: "info", pending: "info", begun: "info", half_open: "warn", waiting: "info", starting: "info",
  retrying: "warn", held: "warn", ambiguous: "warn", paused: "warn", skipped: "quiet", blocked: "warn", open: "bad",
  processing: "info", channel_blocked: "warn", stopped: "quiet", idle: "quiet", completed: "good",
  dead: "bad", failed: "bad", quarantined: "bad", released: "good", resumed: "good",
};

/** A state as a small label. Its word says what its colour says. */
export function badge(state) {
  return h(`span.badge.${TONES[state] || "quiet"}`, {}, String(state).replaceAll("_", " "));
}

/** An id, in full on pointing, whole for copying. */
export function mono(text) {
  return text === null || text === undefined || text === "" ? none() : h("span.mono", { title: text }, text);
}

export function link(href, ...children) {
  return h("a", { href }, ...children);
}

/** The longest beginning of a text that fits into a line. */
export function brief(text, length = 120) {
  const line = String(text ?? "").replace(/\s+/g, " ");
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

/** JSON, indented; a text that is none as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(typeof text === "string" ? JSON.parse(text) : text, null, 2);
  } catch {
    return String(text);
  }
}

/** Terms and what stands for them. What is null is left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl.facts", {}, known.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

export function button(label, onclick, properties = {}) {
  return h(`button${properties.tone ? `.${properties.tone}` : ""}`, { type: "button", onclick, ...properties, tone: null }, label);
}

/** The head of a page. */
export function head(title, actions = [], below = null) {
  return h(".page-head", {}, h("div", {}, h("h1", {}, title), below), h(".actions", {}, actions));
}

export function section(title, ...children) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section.panel", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}
