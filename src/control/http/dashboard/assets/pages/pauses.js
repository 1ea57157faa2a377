// What holds sends back: pauses of operators, limits of platforms, refused credentials.

import { get, may, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { badge, button, h, head, mono, time } from "../dom.js";
import { redraw, table } from "../table.js";

const SCOPES = ["tenant", "channel", "destination", "session", "lane"];

export async function pauses(ctx) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  ctx.refresh(async () => {
    const page = await get("pauses", { limit: 500 }, ctx.signal);
    redraw(place, holdsTable(ctx, page.items));
  }, { events: ["paused", "resumed", "channel_blocked"], every: 10000 });
  const actions = may("operate") ? [button("Pause…", () => pauseAnything(ctx), { tone: "primary" })] : [];
  const about = h("p.quiet", {}, "What is on its way finishes, nothing new is sent, and nothing is lost.");
  return h("div", {}, head("Pauses and limits", actions, about), place);
}

export function holdsTable(ctx, rows) {
  return table({
    caption: "What holds sends back", hideCaption: true, rows, empty: "Nothing is held back.",
    key: (row) => `${row.scope} ${row.name.join(" ")} ${row.cause}`,
    columns: [
      { title: "What", cell: (row) => badge(row.scope) },
      { title: "Name", cell: (row) => mono(row.name.join(" · ")) },
      { title: "Cause", cell: (row) => String(row.cause).replaceAll("_", " ") },
      { title: "Reason", className: "wide", cell: (row) => row.reason },
      { title: "Since", cell: (row) => time(row.since) },
      { title: "Until", cell: (row) => (row.until ? time(row.until) : "resumed") },
      { label: "Change", cell: (row) => (may("operate") ? button("Resume", () => resumeDialog(ctx, row)) : "") },
    ],
  });
}

const pauseFields = [
  { name: "for", label: "For", placeholder: "until it is resumed", hint: "Such as 30m, 2h or 1d. Empty: until it is resumed." },
];

/** Asks to pause one thing whose name is known. */
export function pauseDialog(ctx, scope, name) {
  ask({
    title: `Pause ${scope} ${name.join(" ")}?`, confirm: "Pause", fields: pauseFields,
    text: "What is on its way finishes, nothing new is sent, and nothing is lost.",
    act: (values, key) => post("pauses", { ...values, scope, name }, key),
    done: () => {
      toast("Paused.");
      ctx.again();
    },
  });
}

/** Asks to end a pause, or to forget what a platform asked for. */
export function resumeDialog(ctx, row) {
  const platform = row.cause !== "operator";
  ask({
    title: `Resume ${row.scope} ${row.name.join(" ")}?`, confirm: "Resume",
    text: platform ? "This is what the platform asked for. Sends begin at once, whatever it said." : "Sends begin at once.",
    act: (values, key) => post("pauses/resume", { ...values, scope: row.scope, name: row.name, ...(platform ? { platform: true } : {}) }, key),
    done: () => {
      toast("Resumed.");
      ctx.again();
    },
  });
}

function pauseAnything(ctx) {
  ask({
    title: "Pause", confirm: "Pause",
    fields: [
      { name: "scope", label: "What", options: SCOPES.map((scope) => [scope, scope]) },
      { name: "name", label: "Name", required: true, hint: "Several parts with a space between: destination: CHANNEL CHAT; lane: SESSION channel CHANNEL CHAT [THREAD]." },
      ...pauseFields,
    ],
    act: (values, key) => post("pauses", { ...values, name: values.name.split(/\s+/) }, key),
    done: () => {
      toast("Paused.");
      ctx.again();
    },
  });
}
