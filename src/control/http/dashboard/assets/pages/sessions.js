// Every session, a page at a time.

import { get, may, part, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { badge, button, count, h, head, link, mono, none, time } from "../dom.js";
import { filters, pagedList, table } from "../table.js";

const STATES = ["active", "closed", "quarantined", "running"];

export async function sessions(ctx) {
  const form = filters(ctx, [
    { name: "q", label: "Search", placeholder: "session, agent group or chat" },
    { name: "tenant", label: "Tenant", type: "text" },
    { name: "agent_group", label: "Agent group", type: "text" },
    { name: "state", label: "State", options: STATES },
  ]);
  const query = () => ({
    q: ctx.query.get("q"), tenant: ctx.query.get("tenant"), agent_group: ctx.query.get("agent_group"), state: ctx.query.get("state"),
  });
  const list = pagedList(ctx, {
    path: "sessions", query, draw, events: ["session_created", "quarantined", "released"],
  });
  const actions = may("operate") ? [button("New chat", () => newChat(), { tone: "primary" })] : [];
  return h("div", {}, head("Sessions", actions), form, list);
}

const linkTo = (row) => link(`#/session/${part(row.session_id)}`, row.session_id);

function draw(items) {
  return table({
    caption: "Sessions", hideCaption: true, rows: items, key: (row) => row.session_id, empty: "No session matches.",
    columns: [
      { title: "Session", className: "mono", cell: linkTo },
      { title: "Agent group", cell: (row) => mono(row.agent_group_id) },
      { title: "Tenant", cell: (row) => mono(row.tenant) },
      { title: "State", cell: (row) => state(row) },
      { title: "Waiting", number: true, cell: (row) => count(row.waiting) },
      { title: "Chat", cell: (row) => chat(row) },
      { title: "Last active", cell: (row) => time(row.last_active) },
    ],
  });
}

/** What matters most about a session's state. */
export function state(row) {
  if (row.quarantine_reason) return h("span", { title: row.quarantine_reason }, badge("quarantined"));
  return [badge(row.status), row.container_status === "running" ? [" ", badge("running")] : null].flat();
}

/** Where a session speaks. */
export function chat(row) {
  if (!row.channel_type) return none();
  const place = [row.channel_type, row.platform_id, row.thread_id].filter(Boolean).join(" · ");
  return mono(place);
}

/** Makes a session whose chat is a page of this dashboard, and goes there. */
async function newChat() {
  let channels = [];
  let groups = [];
  try {
    channels = (await get("chat")).channel_types;
    groups = (await get("tenants")).items.flatMap((tenant) => tenant.agent_groups || []);
  } catch (error) {
    toast(error.message, "bad");
    return;
  }
  if (!channels.length) {
    toast("There is no channel of kind web. Add [channels.web] with kind = \"web\" to the configuration.", "warn");
    return;
  }
  const named = groups.filter((group) => !group.includes("*"));
  const group = named.length
    ? { name: "agent_group_id", label: "Agent group", required: true, options: named.map((name) => [name, name]) }
    : { name: "agent_group_id", label: "Agent group", required: true };
  ask({
    title: "New chat", text: "A new session, whose agent answers on a page of this dashboard.", confirm: "Start", reason: false,
    fields: [group],
    act: (values, key) => post("sessions", {
      agent_group_id: values.agent_group_id, add_chat: true,
      chat: { channel_type: channels[0], platform_id: `web:${key.slice(0, 12)}` },
    }, key),
    done: (made) => {
      location.hash = `#/chat/${part(made.session_id)}`;
    },
  });
}
