// How the host is doing, at a glance.

import { get } from "../api.js";
import { count, duration, h, head, link, mono, section, time, badge } from "../dom.js";
import { milliseconds, plot } from "../plot.js";
import { redraw, table } from "../table.js";

const HISTORY_MINUTES = 60;
const PLOT_STEPS_MAX = 60;
const EVENTS = ["delivered", "retrying", "dead", "ambiguous", "held", "quarantined", "released", "paused", "resumed", "channel_blocked", "changed"];

export async function overview(ctx) {
  const below = h("p.quiet");
  const tiles = h("ul.tiles", { "aria-label": "Figures" });
  const plots = h(".plots");
  const failing = h("div");
  ctx.refresh(async () => {
    const now = await get("overview", {}, ctx.signal);
    redraw(tiles, figures(now));
    redraw(failing, failingTable(now.failing || []));
    below.replaceChildren("Started ", time(now.started_at), `, hears of changes by ${now.watcher}`);
  }, { events: EVENTS, every: 5000 });
  let drawn = null;
  ctx.refresh(async () => {
    const history = await get("history", { minutes: HISTORY_MINUTES }, ctx.signal);
    const text = JSON.stringify(history);
    if (text === drawn || plots.querySelector("details[open]")) return;
    drawn = text;
    redraw(plots, pictures(history));
  }, { events: ["delivered", "dead"], every: 15000 });
  return h("div", {}, head("Overview", [], below), tiles, section("The last hour", plots), section("What is failing", failing));
}

function tile(label, value, { href = null, tone = "", note = null } = {}) {
  const figure = href ? link(href, value) : value;
  return h(`li.tile${tone ? `.${tone}` : ""}`, {}, h("span.label", {}, label), h("span.figure", {}, figure), note ? h("span.note-line", {}, note) : null);
}

function figures(now) {
  const { counts, sessions, lag_ms: lag } = now;
  const oldest = now.oldest_undelivered;
  const alarm = (number, tone) => (number > 0 ? tone : "");
  const listed = (label, state, tone) =>
    tile(label, count(counts[state]), { href: `#/deliveries?state=${state}`, tone: alarm(counts[state], tone) });
  return [
    tile("Delivered in the last minute", count(now.delivered_per_minute)),
    tile("Lag, half of all", lag ? duration(lag.p50) : "–", { note: lag ? `99 % within ${duration(lag.p99)}` : "nothing in 5 minutes" }),
    oldest
      ? tile("Oldest undelivered", time(oldest.since), { tone: Date.now() - Date.parse(oldest.since) > 300000 ? "warn" : "", note: link(`#/delivery/${encodeURIComponent(oldest.session_id)}/${encodeURIComponent(oldest.message_id)}`, oldest.message_id) })
      : tile("Oldest undelivered", "none", { tone: "good" }),
    tile("Waiting", count(counts.queued + counts.sending), { href: "#/deliveries?state=queued&state=sending" }),
    listed("Retrying", "retrying", "warn"),
    listed("Dead", "dead", "bad"),
    listed("Ambiguous", "ambiguous", "warn"),
    listed("Held", "held", "warn"),
    tile("Blocked lanes", count(now.blocked_lanes), { href: "#/lanes?blocked=true", tone: alarm(now.blocked_lanes, "warn") }),
    tile("Pauses and limits", count(now.holds), { href: "#/pauses", tone: alarm(now.holds, "warn") }),
    tile("Sessions", count(sessions.total), { href: "#/sessions", note: `${count(sessions.active)} active, ${count(sessions.running)} running` }),
    tile("Quarantined", count(sessions.quarantined), { href: "#/sessions?state=quarantined", tone: alarm(sessions.quarantined, "bad") }),
  ];
}

/** Joins steps, so that there are no more than a plot can show. The worst of their times counts. */
function joined(history) {
  const size = Math.max(1, Math.ceil(history.points.length / PLOT_STEPS_MAX));
  const points = [];
  for (let end = history.points.length; end > 0; end -= size) {
    const part = history.points.slice(Math.max(0, end - size), end);
    const sum = (field) => part.reduce((total, point) => total + point[field], 0);
    const worst = (field) => part.reduce((most, point) => (point[field] === null ? most : Math.max(most ?? 0, point[field])), null);
    points.unshift({
      at: part[0].at, delivered: sum("delivered"), failed: sum("failed"), dead: sum("dead"), p50_ms: worst("p50_ms"), p99_ms: worst("p99_ms"),
    });
  }
  return { step_ms: history.step_ms * size, points };
}

function pictures(whole) {
  const history = joined(whole);
  const { points } = history;
  const at = points.map((point) => Date.parse(point.at));
  const of = (field) => points.map((point) => point[field]);
  return [
    plot({
      title: `Messages per ${duration(history.step_ms)}`, at,
      series: [
        { name: "delivered", tone: "first", kind: "bar", values: of("delivered") },
        { name: "failed attempts", tone: "second", kind: "line", values: of("failed") },
        { name: "dead", tone: "third", kind: "line", values: of("dead").map((dead) => dead || null) },
      ],
    }),
    plot({
      title: "Lag from known to accepted", at, unit: milliseconds,
      series: [
        { name: "half of all", tone: "first", kind: "line", values: of("p50_ms") },
        { name: "99 %", tone: "second", kind: "line", values: of("p99_ms") },
      ],
    }),
  ];
}

function failingTable(rows) {
  return table({
    caption: "Failures that wait for a retry or an operator", hideCaption: true, rows,
    empty: "Nothing is failing.",
    key: (row) => `${row.channel} ${row.error_class}`,
    columns: [
      { title: "Channel", cell: (row) => mono(row.channel) },
      { title: "Failure", cell: (row) => badge(row.error_class || "unknown") },
      { title: "Messages", number: true, cell: (row) => count(row.count) },
      { title: "Last", cell: (row) => time(row.last_at) },
      { label: "Look", cell: (row) => link(`#/deliveries?channel=${encodeURIComponent(row.channel ?? "")}&class=${encodeURIComponent(row.error_class ?? "")}&state=retrying&state=dead&state=ambiguous&state=held`, "Show") },
    ],
  });
}
