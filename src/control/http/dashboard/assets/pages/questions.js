// Questions with buttons that wait for an answer.

import { get, may, part, post, session } from "../api.js";
import { ask, toast } from "../dialog.js";
import { button, h, head, link, mono, time } from "../dom.js";
import { redraw, table } from "../table.js";

export async function questions(ctx) {
  const place = h("div", {}, h("p.empty", {}, "Loading…"));
  ctx.refresh(async () => {
    const page = await get("questions", { limit: 200 }, ctx.signal);
    redraw(place, draw(ctx, page.items));
  }, { events: ["delivered", "inbound", "changed"], every: 10000 });
  return h("div", {}, head("Questions", [], h("p.quiet", {}, "Agents that asked with buttons, and wait. The first answer counts.")), place);
}

function draw(ctx, rows) {
  return table({
    caption: "Questions", hideCaption: true, rows, key: (row) => row.question_id, empty: "No question waits.",
    columns: [
      { title: "Question", className: "wide", cell: (row) => row.title },
      { title: "Session", className: "mono", cell: (row) => link(`#/session/${part(row.session_id)}`, row.session_id) },
      { title: "Chat", cell: (row) => mono([row.channel_type, row.platform_id].filter(Boolean).join(" · ")) },
      { title: "Asked", cell: (row) => time(row.asked_at) },
      { label: "Answer", cell: (row) => (may("operate") ? button("Answer", () => answer(ctx, row)) : "") },
    ],
  });
}

function answer(ctx, row) {
  const choice = row.options.length
    ? { name: "selected_option", label: "Answer", options: row.options.map((option) => [option, option]) }
    : { name: "selected_option", label: "Answer", required: true };
  ask({
    title: row.title || "Answer this question", confirm: "Answer", fields: [choice],
    act: (values, key) => post(`questions/${part(row.question_id)}/answer`, { ...values, user_id: session.me.name }, key),
    done: () => {
      toast("Answered.");
      ctx.again();
    },
  });
}
