// Messages that agents have written, and changes of many of them at once.

import { may, part, post, randomKey } from "../api.js";
import { ask, errorNote, toast } from "../dialog.js";
import { badge, brief, button, count, h, head, link, mono, none, time } from "../dom.js";
import { filters, pagedList, table } from "../table.js";

const STATES = ["queued", "sending", "retrying", "delivered", "dead", "ambiguous", "held"];
const REPLAYABLE = ["dead", "ambiguous", "held"];
const CANCELLABLE = ["queued", "retrying", "held", "ambiguous"];
const EVENTS = ["delivered", "retrying", "dead", "ambiguous", "held", "changed"];
/** Filters that a change of many cannot have. */
const ONLY_LISTS = ["q", "since", "until"];

export async function deliveries(ctx) {
  const form = filters(ctx, [
    { name: "state", label: "State", options: STATES, multiple: true },
    { name: "q", label: "Search", placeholder: "message id or error" },
    { name: "session", label: "Session", type: "text" },
    { name: "channel", label: "Channel", type: "text" },
    { name: "class", label: "Failure", type: "text", placeholder: "rate_limited, transient, …" },
    { name: "tenant", label: "Tenant", type: "text" },
  ]);
  const query = () => ({
    state: ctx.all("state"), q: ctx.query.get("q"), session: ctx.query.get("session"), channel: ctx.query.get("channel"),
    class: ctx.query.get("class"), tenant: ctx.query.get("tenant"), since: ctx.query.get("since"), until: ctx.query.get("until"),
  });
  const list = pagedList(ctx, { path: "deliveries", query, draw, events: EVENTS });
  const actions = may("operate")
    ? [button("Replay matching…", () => bulk(ctx, "replay")), button("Cancel matching…", () => bulk(ctx, "cancel"))]
    : [];
  return h("div", {}, head("Deliveries", actions), form, list);
}

/** The page of one delivery. */
export function deliveryLink(row) {
  return link(`#/delivery/${part(row.session_id)}/${part(row.message_id)}`, row.message_id);
}

export function destination(row) {
  const place = [row.channel_type, row.platform_id, row.thread_id].filter(Boolean).join(" · ");
  return place ? mono(place) : none();
}

function columns() {
  return [
    { title: "State", cell: (row) => badge(row.state) },
    { title: "Message", className: "mono", cell: deliveryLink },
    { title: "Session", className: "mono", cell: (row) => link(`#/session/${part(row.session_id)}`, row.session_id) },
    { title: "To", cell: destination },
    { title: "Tries", number: true, cell: (row) => String(row.attempts) },
    { title: "Failure", className: "wide", cell: failure },
    { title: "Next", cell: (row) => time(row.next_attempt_at) },
    { title: "Changed", cell: (row) => time(row.updated_at) },
  ];
}

function failure(row) {
  if (!row.error && !row.error_class) return "";
  return h("span", { title: row.error }, row.error_class ? h("strong", {}, `${row.error_class} `) : null, brief(row.error, 90));
}

function draw(items) {
  return table({
    caption: "Deliveries", hideCaption: true, rows: items, columns: columns(), empty: "No delivery matches.",
    key: (row) => `${row.session_id}/${row.message_id}`,
  });
}

/** First counts and shows what would change, then asks. */
async function bulk(ctx, verb) {
  const unfit = ONLY_LISTS.filter((name) => ctx.query.get(name));
  if (unfit.length) {
    toast(`Clear these filters first, many messages cannot be chosen by them: ${unfit.join(", ")}.`, "warn");
    return;
  }
  const fit = verb === "replay" ? REPLAYABLE : CANCELLABLE;
  const wanted = ctx.all("state").filter((state) => fit.includes(state));
  if (ctx.all("state").length && !wanted.length) {
    toast(`Only messages that are ${fit.join(", ")} can be changed so.`, "warn");
    return;
  }
  const given = {
    states: wanted.length ? wanted : fit, session_id: ctx.query.get("session"), channel_type: ctx.query.get("channel"),
    error_class: ctx.query.get("class"), tenant: ctx.query.get("tenant"),
  };
  const filter = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  const path = `deliveries/${verb}`;
  let trial;
  try {
    trial = await post(path, { filter, dry_run: true }, randomKey());
  } catch (error) {
    document.getElementById("page-error").replaceChildren(errorNote(error));
    return;
  }
  if (!trial.matched) {
    toast("No message matches.", "warn");
    return;
  }
  confirmBulk(ctx, { verb, path, filter, trial });
}

function confirmBulk(ctx, { verb, path, filter, trial }) {
  const items = trial.items || [];
  const shown = table({
    caption: `The first ${count(items.length)} of them`, rows: items, key: (row) => row.message_id,
    columns: [
      { title: "State", cell: (row) => badge(row.state) },
      { title: "Message", cell: (row) => mono(row.message_id) },
      { title: "Session", cell: (row) => mono(row.session_id) },
      { title: "Failure", cell: (row) => brief(row.error, 50) },
    ],
  });
  const messages = `${count(trial.matched)} ${trial.matched === 1 ? "message" : "messages"}`;
  const rate = verb === "replay"
    ? [{ name: "rate", label: "At most", placeholder: "all at once", hint: "Such as 10/s or 100/m. Empty: all at once." }]
    : [];
  ask({
    title: verb === "replay" ? `Replay ${messages}?` : `Cancel ${messages}?`,
    text: verb === "replay" ? "They go back into their lanes, and are sent in their order." : "They are not sent any more. Each is listed as dead.",
    confirm: verb === "replay" ? `Replay ${messages}` : `Cancel ${messages}`, tone: verb === "replay" ? "primary" : "danger",
    fields: rate, extra: h(".preview", {}, shown),
    act: (values, key) => post(path, { filter, dry_run: false, ...values }, key),
    done: (answer) => {
      toast(`${count(answer.changed)} of ${count(answer.matched)} changed.`);
      ctx.again();
    },
  });
}
