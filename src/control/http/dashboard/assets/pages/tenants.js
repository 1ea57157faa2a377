// Who shares the host.

import { get, may, part } from "../api.js";
import { badge, button, count, h, head, link, none, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { pauseDialog, resumeDialog } from "./pauses.js";

export async function tenants(ctx) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  ctx.refresh(async () => {
    const page = await get("tenants", { limit: 500 }, ctx.signal);
    redraw(place, draw(ctx, page.items));
  }, { events: ["paused", "resumed", "session_created"], every: 15000 });
  return h("div", {}, head("Tenants", [], h("p.quiet", {}, "They take turns in each channel, by their weight.")), place);
}

function draw(ctx, rows) {
  return table({
    caption: "Tenants", hideCaption: true, rows, key: (row) => row.name, empty: "There is no tenant.",
    columns: [
      { title: "Tenant", className: "mono", cell: (row) => link(`#/sessions?tenant=${part(row.name)}`, row.name) },
      { title: "Agent groups", className: "wide", cell: (row) => (row.agent_groups || []).join(", ") || none() },
      { title: "Weight", number: true, cell: (row) => String(row.weight) },
      { title: "Sends at a time", number: true, cell: (row) => (row.in_flight_max ? count(row.in_flight_max) : "no limit") },
      { title: "Sessions", number: true, cell: (row) => count(row.sessions) },
      { title: "Waiting", number: true, cell: (row) => count(row.waiting) },
      { title: "State", cell: (row) => state(row) },
      { label: "Change", cell: (row) => change(ctx, row) },
    ],
  });
}

function state(row) {
  if (!row.hold) return h("span.badge.good", {}, "served");
  return h("span", { title: row.hold.reason }, badge("paused"), row.hold.until ? [" until ", time(row.hold.until)] : null);
}

function change(ctx, row) {
  if (!may("operate")) return "";
  return row.hold
    ? button("Resume", () => resumeDialog(ctx, { scope: "tenant", name: [row.name], cause: "operator", ...row.hold }))
    : button("Pause", () => pauseDialog(ctx, "tenant", [row.name]));
}
