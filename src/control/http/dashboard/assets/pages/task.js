// One task: when it runs, and how it ran.

import { get, part } from "../api.js";
import { badge, duration, facts, h, head, link, mono, section, time } from "../dom.js";
import { redraw, table } from "../table.js";
import { TASK_EVENTS, taskButtons } from "./tasks.js";

export async function task(ctx) {
  const [session, series] = ctx.parts;
  const path = `tasks/${part(session || "")}/${part(series || "")}`;
  ctx.setTitle(series || "Task");
  const top = h(".stack", {}, h("p.empty", {}, "Loading…"));
  const runs = h("div");
  ctx.refresh(async () => {
    const [row, history] = await Promise.all([get(path, {}, ctx.signal), get(`${path}/runs`, { limit: 100 }, ctx.signal)]);
    redraw(top, draw(ctx, row));
    redraw(runs, runsTable(history.items));
  }, { events: TASK_EVENTS, every: 10000 });
  return h("div", {}, top, section("History", runs));
}

function draw(ctx, row) {
  const next = row.next_runs || [];
  return [
    head(row.series_id, taskButtons(ctx, row), h("p", {}, badge(row.status))),
    facts([
      ["Session", link(`#/session/${part(row.session_id)}`, row.session_id)],
      ["Tenant", mono(row.tenant)],
      ["Recurrence", row.recurrence ? mono(row.recurrence) : "once"],
      ["Time zone", row.timezone],
      ["Next run", time(row.next_run)],
      ["Tries of this run", String(row.tries ?? 0)],
      ["Answers go to", [row.channel_type, row.platform_id, row.thread_id].filter(Boolean).join(" · ") || "the session's chat"],
    ]),
    section("Prompt", h("p.said", {}, row.prompt), row.script ? h("pre", { tabindex: "0", "aria-label": "Script" }, row.script) : null),
    section("Next runs", next.length ? h("ol.times", {}, next.map((at) => h("li", {}, time(at), " ", h("span.quiet", {}, at)))) : h("p.empty", {}, "None is planned.")),
  ];
}

function runsTable(rows) {
  return table({
    caption: "Runs, the newest first", hideCaption: true, rows, key: (run) => run.scheduled_at, empty: "It has not run yet.",
    columns: [
      { title: "Due", cell: (run) => time(run.scheduled_at) },
      { title: "Result", cell: (run) => badge(run.result) },
      { title: "Late", number: true, cell: (run) => duration(run.late_ms) },
      { title: "Began", cell: (run) => time(run.started_at) },
      { title: "Ended", cell: (run) => time(run.ended_at) },
      { title: "More", className: "wide", cell: (run) => run.detail || "" },
    ],
  });
}
