// Conversations that wait, and for what.

import { may, part, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { badge, brief, button, count, h, head, link, mono, time } from "../dom.js";
import { filters, pagedList, table } from "../table.js";

const EVENTS = ["delivered", "retrying", "dead", "held", "ambiguous", "changed", "paused", "resumed"];

export async function lanes(ctx) {
  const form = filters(ctx, [
    { name: "blocked", label: "Lanes", options: ["true", "false"] },
    { name: "session", label: "Session", type: "text" },
    { name: "tenant", label: "Tenant", type: "text" },
  ]);
  // The options are words for people; the query says true or nothing.
  for (const option of form.querySelectorAll("option")) {
    if (option.value === "true") option.textContent = "blocked";
    if (option.value === "false") option.textContent = "not only blocked";
  }
  const query = () => ({
    blocked: ctx.query.get("blocked") === "true" ? "true" : "", session: ctx.query.get("session"), tenant: ctx.query.get("tenant"),
  });
  const list = pagedList(ctx, { path: "lanes", query, draw: (items) => lanesTable(ctx, items, true), events: EVENTS });
  const about = h("p.quiet", {}, "A lane is one conversation: its messages leave in order. It waits for its own first message only.");
  return h("div", {}, head("Lanes", [], about), form, list);
}

export function lanesTable(ctx, rows, withSession) {
  const columns = [
    { title: "Lane", className: "mono", cell: (row) => mono(row.lane) },
    { title: "First message", className: "mono", cell: (row) => link(`#/delivery/${part(row.session_id)}/${part(row.head_message_id)}`, row.head_message_id) },
    { title: "State", cell: (row) => [badge(row.state), row.is_blocked ? [" ", badge("blocked")] : null].flat().filter(Boolean) },
    { title: "Why", className: "wide", cell: (row) => why(row) },
    { title: "Behind it", number: true, cell: (row) => count(row.waiting_behind) },
    { title: "Since", cell: (row) => time(row.since) },
    { title: "Next try", cell: (row) => time(row.next_attempt_at) },
    { label: "Change", cell: (row) => (row.is_blocked && may("operate") ? button("Let it go on", () => unblock(ctx, row)) : "") },
  ];
  if (withSession) columns.unshift({ title: "Session", className: "mono", cell: (row) => link(`#/session/${part(row.session_id)}`, row.session_id) });
  return table({
    caption: "Lanes with something to send", hideCaption: true, rows, columns, empty: "No lane waits.", key: (row) => `${row.session_id} ${row.lane}`,
  });
}

function why(row) {
  if (!row.error && !row.error_class) return "";
  return h("span", { title: row.error }, row.error_class ? h("strong", {}, `${row.error_class} `) : null, brief(row.error, 80));
}

function unblock(ctx, row) {
  ask({
    title: "Let this lane go on?", confirm: "Let it go on",
    text: `The message ${row.head_message_id} is put aside as held. The ${count(row.waiting_behind)} behind it are sent. Replay it later from its own page.`,
    act: (values, key) => post("lanes/unblock", { ...values, session_id: row.session_id, lane: row.lane }, key),
    done: () => {
      toast("The lane goes on.");
      ctx.again();
    },
  });
}
