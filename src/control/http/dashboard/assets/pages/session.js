// One session: what its agent writes and what it reads, side by side.

import { get, may, part, post } from "../api.js";
import { ask, errorNote, toast } from "../dialog.js";
import { badge, brief, button, count, facts, h, head, link, mono, none, pretty, section, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { chat, state } from "./sessions.js";
import { holdsTable, pauseDialog } from "./pauses.js";
import { lanesTable } from "./lanes.js";

const EVENTS = ["delivered", "retrying", "dead", "ambiguous", "held", "inbound", "quarantined", "released", "paused", "resumed", "changed"];
const ROWS = 25;

export async function session(ctx) {
  const id = ctx.parts[0] || "";
  const path = `sessions/${part(id)}`;
  ctx.setTitle(id);
  const top = h(".stack");
  const lanes = h("div");
  const holds = h("div");
  ctx.refresh(async () => {
    const row = await get(path, {}, ctx.signal);
    redraw(top, summary(ctx, row));
    redraw(lanes, lanesTable(ctx, row.lanes || [], false));
    redraw(holds, holdsTable(ctx, row.holds || []));
  }, { events: EVENTS, every: 10000 });
  const outbox = rowsOf(ctx, `${path}/outbound`, (items) => outboundTable(id, items));
  const inbox = rowsOf(ctx, `${path}/inbound`, inboundTable);
  return h("div", {}, top,
    h(".side-by-side", {},
      section("What the agent writes", h("p.quiet", {}, "outbound.db, the newest first, with what became of each row"), outbox),
      section("What the agent reads", h("p.quiet", {}, "inbound.db, the newest first"), inbox)),
    section("Lanes", lanes), section("What holds it back", holds));
}

function summary(ctx, row) {
  const path = `sessions/${part(row.session_id)}`;
  const actions = [];
  if (may("operate")) {
    actions.push(button("Send a message", () => sendDialog(ctx, path), { tone: "primary", "data-focus": "send" }));
    actions.push(button("Look again", () => simple(ctx, "Look again at this session", `${path}/rescan`, "Look again"), { "data-focus": "rescan" }));
    if (row.quarantine_reason) {
      actions.push(button("Release", () => simple(ctx, "Release this session", `${path}/release`, "Release"), { "data-focus": "release" }));
    }
    actions.push(button("Pause", () => pauseDialog(ctx, "session", [row.session_id]), { "data-focus": "pause" }));
  }
  actions.push(h("a.button", { href: `#/chat/${part(row.session_id)}`, "data-focus": "chat" }, "Chat"));
  actions.push(h("a.button", { href: `#/deliveries?session=${part(row.session_id)}`, "data-focus": "deliveries" }, "Deliveries"));
  const warning = row.quarantine_reason
    ? h("p.note.bad", {}, h("strong", {}, "Quarantined. "), row.quarantine_reason)
    : null;
  return [
    head(row.session_id, actions, h("p", {}, state(row))), warning,
    facts([
      ["Agent group", mono(row.agent_group_id)],
      ["Tenant", link(`#/sessions?tenant=${part(row.tenant)}`, row.tenant)],
      ["Chat", chat(row)],
      ["Container", row.container_status ? badge(row.container_status) : null],
      ["Agent", row.agent ? agentWords(row.agent) : null],
      ["Waiting", count(row.waiting)],
      ["Last active", time(row.last_active)],
    ]),
  ];
}

function agentWords(agent) {
  const parts = [badge(agent.state)];
  if (agent.since) parts.push(" since ", time(agent.since));
  if (agent.failures) parts.push(`, failed ${count(agent.failures)} times`);
  if (agent.reason) parts.push(`: ${agent.reason}`);
  return h("span", {}, parts);
}

function simple(ctx, title, path, confirm) {
  ask({ title, confirm, act: (values, key) => post(path, values, key), done: () => { toast("Done."); ctx.again(); } });
}

function sendDialog(ctx, path) {
  ask({
    title: "Send a message to this agent", confirm: "Send", reason: true,
    text: "It goes into the agent's inbox, as if somebody had written it in the session's chat.",
    fields: [
      { name: "text", label: "Text", type: "textarea", required: true },
      { name: "context_only", label: "Wake the agent", options: [["", "yes"], ["true", "no, context for the next time"]] },
    ],
    act: (values, key) => post(`${path}/messages`, { ...values, id: `dashboard-${key}`, context_only: values.context_only === "true" }, key),
    done: () => toast("The message is in the inbox."),
  });
}

/** Rows with a button for older ones; the newest page is read again when something happens. */
function rowsOf(ctx, path, draw) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  const problem = h("div");
  const older = button("Older rows", () => more(), { hidden: true });
  let first = [];
  let rest = [];
  let next = null;
  const show = () => {
    redraw(place, draw([...first, ...rest]));
    older.hidden = !next;
  };
  const load = async () => {
    try {
      const page = await get(path, { limit: ROWS }, ctx.signal);
      problem.replaceChildren();
      first = page.items;
      const seen = new Set(first.map((row) => row.rowid));
      rest = rest.filter((row) => !seen.has(row.rowid));
      if (!rest.length) next = page.next_cursor;
      show();
    } catch (error) {
      if (error.status === undefined || error.status === 401) throw error;
      problem.replaceChildren(errorNote(error));
    }
  };
  const more = async () => {
    try {
      const page = await get(path, { limit: ROWS, cursor: next }, ctx.signal);
      rest = [...rest, ...page.items];
      next = page.next_cursor;
      show();
    } catch (error) {
      problem.replaceChildren(errorNote(error));
    }
  };
  ctx.refresh(load, { events: EVENTS, every: 10000 });
  return h("div", {}, problem, place, older);
}

function contentCell(row) {
  if (row.content === null || row.content === undefined) return "";
  const text = typeof row.content === "string" ? row.content : JSON.stringify(row.content);
  return h("details.content", {}, h("summary", {}, brief(says(text), 90)),
    h("pre", { tabindex: "0" }, pretty(row.content)), row.is_truncated ? h("p.quiet", {}, "The rest is not shown.") : null);
}

/** The part of a content that people read. */
export function says(text) {
  try {
    const value = JSON.parse(text);
    const known = value.text || value.markdown || value.question || value.prompt || value.card?.title || value.fallbackText;
    if (value.operation) return `${value.operation} of ${value.messageId}${known ? `: ${known}` : value.emoji ? `: ${value.emoji}` : ""}`;
    if (value.action) return `${value.action} ${value.taskId || ""}`;
    if (value.files?.length && !known) return value.files.join(", ");
    return known || text;
  } catch {
    return text;
  }
}

function outboundTable(session, rows) {
  return table({
    caption: "Rows of messages_out", hideCaption: true, rows, key: (row) => String(row.rowid), empty: "The agent has written nothing.",
    columns: [
      { title: "#", number: true, cell: (row) => String(row.seq ?? "–") },
      { title: "Content", className: "wide", cell: contentCell },
      { title: "Written", cell: (row) => time(row.timestamp) },
      { title: "Became", cell: (row) => became(session, row) },
    ],
  });
}

function became(session, row) {
  if (!row.delivery) return h("span.quiet", {}, "not read yet");
  const state = row.delivery.state || "queued";
  const tries = row.delivery.attempts > 1 ? `, ${row.delivery.attempts} tries` : "";
  return link(`#/delivery/${part(session)}/${part(row.id)}`, badge(state), tries);
}

function inboundTable(rows) {
  return table({
    caption: "Rows of messages_in", hideCaption: true, rows, key: (row) => String(row.rowid), empty: "Nothing was sent to the agent.",
    columns: [
      { title: "#", number: true, cell: (row) => String(row.seq ?? "–") },
      { title: "Content", className: "wide", cell: contentCell },
      { title: "Kind", cell: (row) => row.kind || none() },
      { title: "State", cell: (row) => (row.claim && row.status === "pending" ? badge(row.claim) : badge(row.status || "unknown")) },
      { title: "Due", cell: (row) => time(row.process_after) },
    ],
  });
}
