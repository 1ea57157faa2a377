// What happens, while it happens.

import { part } from "../api.js";
import { badge, brief, button, count, duration, h, head, link, none, time } from "../dom.js";
import { redraw, table } from "../table.js";

/** Events that are kept on the page. */
const KEPT_MAX = 500;
/** Events that are drawn. */
const SHOWN_MAX = 100;
const DRAW_MS = 200;

export async function live(ctx) {
  let kept = [];
  let isPaused = false;
  let missed = 0;
  let isStale = true;
  const place = h("div", { role: "log", "aria-live": "off", "aria-label": "Events" });
  const note = h("p.quiet", { role: "status" });
  const filter = h("input", { type: "search", id: "live-filter", placeholder: "kind, session, channel or text", autocomplete: "off" });
  const pause = button("Pause", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(isPaused));
    missed = 0;
    isStale = true;
  }, { "aria-pressed": "false" });
  const clear = button("Clear", () => {
    kept = [];
    isStale = true;
  }, { tone: "plain" });
  filter.addEventListener("input", () => {
    isStale = true;
  });
  ctx.onEvent((event) => {
    if (isPaused) {
      missed += 1;
    } else {
      kept.unshift({ ...event, at: event.at || new Date().toISOString() });
      kept.length = Math.min(kept.length, KEPT_MAX);
    }
    isStale = true;
  });
  const timer = setInterval(() => {
    if (!isStale || document.hidden) return;
    isStale = false;
    const words = filter.value.trim().toLowerCase();
    const fitting = words ? kept.filter((event) => JSON.stringify(event).toLowerCase().includes(words)) : kept;
    redraw(place, draw(fitting.slice(0, SHOWN_MAX)));
    const paused = isPaused ? ` Paused; ${count(missed)} passed meanwhile.` : "";
    note.textContent = `${count(fitting.length)} of the last ${count(kept.length)} events.${paused}`;
  }, DRAW_MS);
  ctx.onLeave(() => clearInterval(timer));
  return h("div", {}, head("Live", [pause, clear]),
    h("form.filters", { role: "search", "aria-label": "Filter", onsubmit: (event) => event.preventDefault() }, h("label", {}, "Filter", filter)), note, place);
}

function draw(rows) {
  return table({
    caption: "Events, the newest first", hideCaption: true, rows, key: (row) => row.id || row.at, empty: "Nothing has happened since this page was opened.",
    columns: [
      { title: "When", cell: (row) => time(row.at) },
      { title: "What", cell: (row) => badge(row.kind) },
      { title: "Session", className: "mono", cell: (row) => (row.session_id ? link(`#/session/${part(row.session_id)}`, row.session_id) : none()) },
      { title: "Message", className: "mono", cell: (row) => message(row) },
      { title: "Channel", cell: (row) => row.channel || none() },
      { title: "More", className: "wide", cell: (row) => more(row) },
    ],
  });
}

function message(row) {
  if (!row.message_id) return none();
  if (!row.session_id || row.kind === "task_run" || row.kind === "inbound") return row.message_id;
  return link(`#/delivery/${part(row.session_id)}/${part(row.message_id)}`, row.message_id);
}

function more(row) {
  const parts = [];
  if (row.error_class) parts.push(row.error_class.replaceAll("_", " "));
  if (row.detail) parts.push(brief(row.detail, 120));
  if (row.lag_ms !== undefined && row.lag_ms !== null) parts.push(`after ${duration(row.lag_ms)}`);
  return parts.join(", ");
}
