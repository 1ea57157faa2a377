// One message: what it says, what was tried, and what an operator can do.

import { get, may, part, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { badge, button, facts, h, head, link, mono, pretty, section, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { destination } from "./deliveries.js";
import { says } from "./session.js";

const EVENTS = ["delivered", "retrying", "dead", "ambiguous", "held", "changed"];
const REPLAYABLE = ["dead", "ambiguous", "held"];
const WAITING = ["queued", "retrying", "held", "ambiguous"];

export async function delivery(ctx) {
  const [session, message] = ctx.parts;
  const path = `deliveries/${part(session || "")}/${part(message || "")}`;
  ctx.setTitle(message || "Delivery");
  const place = h(".stack", {}, h("p.empty", {}, "Loading…"));
  let shown = null;
  ctx.refresh(async () => {
    const row = await get(path, {}, ctx.signal);
    const text = JSON.stringify(row);
    if (text === shown) return;
    shown = text;
    redraw(place, draw(ctx, path, row));
  }, { events: EVENTS, every: 10000 });
  return place;
}

function draw(ctx, path, row) {
  const attempts = table({
    caption: "Failed attempts, the oldest first", hideCaption: true, rows: row.failed_attempts || [],
    key: (attempt) => `${attempt.attempt}`, empty: "No attempt has failed.",
    columns: [
      { title: "Try", number: true, cell: (attempt) => String(attempt.attempt) },
      { title: "Ended", cell: (attempt) => time(attempt.ended_at) },
      { title: "Failure", cell: (attempt) => badge(attempt.error_class) },
      { title: "In words", className: "wide", cell: (attempt) => attempt.error },
    ],
  });
  return [
    head(row.message_id, actions(ctx, path, row), h("p", {}, badge(row.state))),
    row.error ? h("p.note.warn", {}, h("strong", {}, `${(row.error_class || "failed").replaceAll("_", " ")}: `), row.error) : null,
    facts([
      ["Session", link(`#/session/${part(row.session_id)}`, row.session_id)],
      ["Number in the session", String(row.seq)],
      ["Kind", row.kind],
      ["To", destination(row)],
      ["Tries", String(row.attempts)],
      ["Next try", row.next_attempt_at ? time(row.next_attempt_at) : null],
      ["The platform's id", row.platform_message_id ? mono(row.platform_message_id) : null],
      ["Changed", time(row.updated_at)],
    ]),
    section("Content", content(row)), section("Attempts", attempts),
  ];
}

function content(row) {
  if (row.content === null || row.content === undefined) return h("p.empty", {}, "The session's file does not have it any more.");
  const text = typeof row.content === "string" ? row.content : JSON.stringify(row.content);
  const words = says(text);
  return h("div", {}, words === text ? null : h("p.said", {}, words), h("pre", { tabindex: "0", "aria-label": "Content as JSON" }, pretty(row.content)),
    row.is_truncated ? h("p.quiet", {}, "The rest is not shown.") : null);
}

function actions(ctx, path, row) {
  if (!may("operate")) return [];
  const verbs = [];
  const done = () => {
    toast("Done.");
    ctx.again();
  };
  const add = (label, dialog, tone) => verbs.push(button(label, () => ask({ ...dialog, done }), { tone, "data-focus": label }));
  if (REPLAYABLE.includes(row.state)) {
    add("Replay", {
      title: "Replay this message?", text: "It goes back into its lane and is sent again.", confirm: "Replay",
      act: (values, key) => post(`${path}/replay`, values, key),
    }, "primary");
  }
  if (row.state === "ambiguous") {
    add("Resolve", {
      title: "Has this message arrived?", confirm: "Resolve",
      fields: [
        { name: "as", label: "It", options: [["delivered", "has arrived"], ["not-delivered", "has not arrived: send it"]] },
        { name: "platform_message_id", label: "The platform's id, if known" },
      ],
      act: (values, key) => post(`${path}/resolve`, values, key),
    });
  }
  if (["queued", "retrying"].includes(row.state)) {
    add("Snooze", {
      title: "Send this message later?", confirm: "Snooze",
      fields: [{ name: "for", label: "For", value: "1h", required: true, hint: "Such as 15m, 2h or 1d." }],
      act: (values, key) => post(`${path}/snooze`, values, key),
    });
  }
  if (WAITING.includes(row.state)) {
    add("Cancel", {
      title: "Cancel this message?", text: "It is not sent any more, and listed as dead.", confirm: "Cancel the message", tone: "danger",
      act: (values, key) => post(`${path}/cancel`, values, key),
    }, "danger");
  }
  return verbs;
}
