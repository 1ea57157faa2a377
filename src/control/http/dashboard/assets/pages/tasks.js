// What agents have planned.

import { may, part, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { badge, brief, button, h, head, link, mono, time } from "../dom.js";
import { filters, pagedList, table } from "../table.js";

export const TASK_EVENTS = ["task_run", "changed", "inbound", "paused", "resumed"];

export async function tasks(ctx) {
  const form = filters(ctx, [
    { name: "session", label: "Session", type: "text" },
    { name: "tenant", label: "Tenant", type: "text" },
    { name: "status", label: "Status", options: ["pending", "paused"] },
  ]);
  const query = () => ({ session: ctx.query.get("session"), tenant: ctx.query.get("tenant"), status: ctx.query.get("status") });
  const list = pagedList(ctx, { path: "tasks", query, draw: (items) => draw(ctx, items), events: TASK_EVENTS });
  return h("div", {}, head("Tasks"), form, list);
}

/** What an operator can do to a task, as buttons. */
export function taskButtons(ctx, row) {
  if (!may("operate")) return [];
  const verb = (label, name, text, tone) => button(label, () => ask({
    title: `${label} ${row.series_id}?`, text, confirm: label, tone: tone || "primary",
    act: (values, key) => post(`tasks/${part(row.session_id)}/${part(row.series_id)}/${name}`, values, key),
    done: () => {
      toast("Done.");
      ctx.again();
    },
  }), { "data-focus": `${row.session_id}/${row.series_id}/${name}` });
  const pauseOrResume = row.status === "paused"
    ? verb("Resume", "resume", "It runs again at its times.")
    : verb("Pause", "pause", "It does not run until it is resumed.");
  return [
    pauseOrResume, verb("Run now", "run-now", "One run begins now; the plan stays as it is."),
    verb("Cancel", "cancel", "The whole series ends. This cannot be taken back.", "danger"),
  ];
}

function draw(ctx, items) {
  return table({
    caption: "Tasks", hideCaption: true, rows: items, key: (row) => `${row.session_id}/${row.series_id}`, empty: "No task matches.",
    columns: [
      { title: "Task", className: "mono", cell: (row) => link(`#/task/${part(row.session_id)}/${part(row.series_id)}`, row.series_id) },
      { title: "Session", className: "mono", cell: (row) => link(`#/session/${part(row.session_id)}`, row.session_id) },
      { title: "Status", cell: (row) => badge(row.status) },
      { title: "Next run", cell: (row) => time(row.next_run) },
      { title: "Recurrence", cell: (row) => (row.recurrence ? mono(`${row.recurrence} (${row.timezone})`) : "once") },
      { title: "Last run", cell: (row) => lastRun(row.last_run) },
      { title: "Prompt", className: "wide", cell: (row) => brief(row.prompt, 50) },
      { label: "Change", cell: (row) => h(".row-buttons", {}, taskButtons(ctx, row)) },
    ],
  });
}

function lastRun(run) {
  return run ? h("span", {}, badge(run.result), " ", time(run.ended_at || run.started_at || run.scheduled_at)) : "";
}
