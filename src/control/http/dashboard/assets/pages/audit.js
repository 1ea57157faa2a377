// Who changed what, and why.

import { badge, h, head, mono, none, pretty, time } from "../dom.js";
import { filters, pagedList, table } from "../table.js";

export async function audit(ctx) {
  const form = filters(ctx, [
    { name: "who", label: "Who", type: "text" },
    { name: "action", label: "Action", type: "text", placeholder: "delivery.replay" },
  ]);
  const list = pagedList(ctx, {
    path: "audit", query: () => ({ who: ctx.query.get("who"), action: ctx.query.get("action") }), draw,
    events: ["changed", "paused", "resumed", "released", "session_created"],
  });
  return h("div", {}, head("Audit"), form, list);
}

function draw(items) {
  return table({
    caption: "Changes, the newest first", hideCaption: true, rows: items, key: (row) => String(row.id), empty: "No change matches.",
    columns: [
      { title: "When", cell: (row) => time(row.at) },
      { title: "Who", cell: (row) => h("span", {}, row.who, " ", h("span.quiet", {}, `by ${row.via}`)) },
      { title: "Action", cell: (row) => mono(row.action) },
      { title: "Target", cell: (row) => mono(row.target) },
      { title: "Reason", className: "wide", cell: (row) => row.reason || none() },
      { title: "Outcome", cell: (row) => h("span", { title: row.error }, badge(row.outcome || "done"), row.error ? ` ${row.error}` : null) },
      { title: "Change", cell: (row) => change(row) },
    ],
  });
}

function change(row) {
  if (!row.before && !row.after) return "";
  const side = (label, value) => (value ? h("div", {}, h("strong", {}, label), h("pre", { tabindex: "0" }, pretty(value))) : null);
  return h("details.content", {}, h("summary", {}, "Show"), side("Before", row.before), side("After", row.after));
}
