// Each channel account: what it takes, and what keeps it from sending.

import { get, may } from "../api.js";
import { button, count, h, head, link, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { pauseDialog, resumeDialog } from "./pauses.js";

const NO_CHANNEL = "(none)";
const EVENTS = ["delivered", "retrying", "dead", "channel_blocked", "paused", "resumed"];

export async function channels(ctx) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  ctx.refresh(async () => {
    const [page, holds] = await Promise.all([get("channels", { limit: 500 }, ctx.signal), get("pauses", { limit: 500 }, ctx.signal)]);
    redraw(place, draw(ctx, page.items, holds.items));
  }, { events: EVENTS, every: 5000 });
  return h("div", {}, head("Channels"), place);
}

function draw(ctx, all, holds) {
  // Where messages without a channel wait: only of interest when some do.
  const rows = all.filter((row) => row.name !== NO_CHANNEL || row.queued || row.attempts);
  const paused = (row) => holds.find((hold) => hold.scope === "channel" && hold.name[0] === row.name);
  return table({
    caption: "Channels", hideCaption: true, rows, key: (row) => row.name, empty: "No channel is configured. Messages wait until there is one.",
    columns: [
      { title: "Channel", className: "mono", cell: (row) => h("span", { title: trouble(row) }, link(`#/deliveries?channel=${encodeURIComponent(row.name)}`, row.name)) },
      { title: "State", cell: (row) => state(row, paused(row)) },
      { title: "Queued", number: true, cell: (row) => count(row.queued) },
      { title: "On their way", number: true, cell: (row) => count(row.in_flight) },
      { title: "Lanes held back", number: true, cell: (row) => count(row.lanes_held_back) },
      { title: "Attempts", number: true, cell: (row) => count(row.attempts) },
      { title: "Failed", number: true, cell: (row) => count(row.failed) },
      { title: "Breaker", cell: (row) => breaker(row.breaker) },
      { title: "Limits", cell: (row) => limits(row) },
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
  if (value?.is_open) return h("span", {}, h("span.badge.bad", {}, "open"), value.until ? [" until ", time(value.until)] : null);
  return h("span.quiet", { title: value?.failures ? `opens after ${count(value.failures)} failures in a row` : "never opens" }, "closed");
}

function limits(row) {
  const words = (rate) => `${rate.per_second}/s, burst ${count(rate.burst)}`;
  const parts = [
    row.rate ? words(row.rate) : null, row.destination_rate ? `each chat ${words(row.destination_rate)}` : null,
  ].filter(Boolean);
  return parts.length ? parts.join("; ") : h("span.quiet", {}, "none of ours");
}

/** What happens to messages in trouble, as is configured. */
function trouble(row) {
  const words = [
    ["repeats", row.idempotency], ["unknown whether sent", row.on_ambiguous], ["while the first message fails", row.on_block],
  ];
  return words.filter(([, value]) => value).map(([name, value]) => `${name}: ${String(value).replaceAll("_", " ")}`).join("; ");
}

function change(ctx, row, hold) {
  if (!may("operate") || row.name === "*" || row.name === NO_CHANNEL) return "";
  if (hold) return button("Resume", () => resumeDialog(ctx, hold));
  return button("Pause", () => pauseDialog(ctx, "channel", [row.name]));
}

