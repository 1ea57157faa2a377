// Each channel account: what it takes, and what keeps it from sending.

import { get, may } from "../api.js";
import { badge, button, count, h, head, link, none, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { pauseDialog, resumeDialog } from "./pauses.js";

const EVENTS = ["delivered", "retrying", "dead", "channel_blocked", "paused", "resumed"];

export async function channels(ctx) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  ctx.refresh(async () => {
    const [page, holds] = await Promise.all([get("channels", { limit: 500 }, ctx.signal), get("pauses", { limit: 500 }, ctx.signal)]);
    redraw(place, draw(ctx, page.items, holds.items));
  }, { events: EVENTS, every: 5000 });
  return h("div", {}, head("Channels"), place);
}

function draw(ctx, rows, holds) {
  const paused = (row) => holds.find((hold) => hold.scope === "channel" && hold.name[0] === row.name);
  return table({
    caption: "Channels", hideCaption: true, rows, key: (row) => row.name, empty: "No channel is configured. Messages wait until there is one.",
    columns: [
      { title: "Channel", className: "mono", cell: (row) => link(`#/deliveries?channel=${encodeURIComponent(row.name)}`, row.name) },
      { title: "Kind", cell: (row) => kind(row) },
      { title: "State", cell: (row) => state(row, paused(row)) },
      { title: "Queued", number: true, cell: (row) => count(row.queued) },
      { title: "On their way", number: true, cell: (row) => count(row.in_flight) },
      { title: "Lanes held back", number: true, cell: (row) => count(row.lanes_held_back) },
      { title: "Delivered", number: true, cell: (row) => count(row.delivered) },
      { title: "Failed", number: true, cell: (row) => count(row.failed) },
      { title: "Breaker", cell: (row) => breaker(row.breaker) },
      { title: "Limit", cell: (row) => limit(row.rate) },
      { label: "Change", cell: (row) => change(ctx, row, paused(row)) },
    ],
  });
}

function state(row, hold) {
  const blocked = row.blocked_by || hold?.cause;
  if (!blocked) return h("span.badge.good", {}, "ready");
  const until = row.blocked_until || hold?.until;
  const label = hold?.cause === "operator" || blocked === "operator" ? "paused" : String(blocked).replaceAll("_", " ");
  return h("span", { title: hold?.reason }, h("span.badge.warn", {}, label), until ? [" until ", time(until)] : null);
}

function breaker(value) {
  if (!value || !value.state) return none();
  const name = value.state === "closed" ? h("span.badge.quiet", {}, "closed") : badge(value.state);
  return value.until || value.open_until ? h("span", {}, name, " until ", time(value.until || value.open_until)) : name;
}

function limit(rate) {
  if (!rate) return h("span.quiet", {}, "none");
  const parts = Object.entries(rate).filter(([, value]) => value !== null && typeof value !== "object");
  const nested = Object.entries(rate).filter(([, value]) => value && typeof value === "object");
  const text = [
    ...parts.map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`),
    ...nested.map(([name, value]) => `${name}: ${Object.entries(value).map(([inner, number]) => `${inner.replaceAll("_", " ")} ${number}`).join(", ")}`),
  ];
  return h("span", {}, text.join("; "));
}

function kind(row) {
  const more = [["repeats", row.idempotency], ["when it is unknown whether sent", row.on_ambiguous], ["while the first message fails", row.on_block]];
  const title = more.filter(([, value]) => value).map(([name, value]) => `${name}: ${String(value).replaceAll("_", " ")}`).join("; ");
  return row.kind ? h("span", { title }, row.kind) : none();
}

function change(ctx, row, hold) {
  if (!may("operate") || row.name === "*") return "";
  if (hold) return button("Resume", () => resumeDialog(ctx, hold));
  return button("Pause", () => pauseDialog(ctx, "channel", [row.name]));
}

