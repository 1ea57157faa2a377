// One stream of events for the whole page. What happens is told to whoever listens.

const KINDS = [
  "delivered", "retrying", "dead", "ambiguous", "held", "quarantined", "released", "paused", "resumed", "channel_blocked",
  "task_run", "session_created", "inbound", "changed", "overflow", "reset",
];
/** After a stream was refused, the next try. The browser itself tries again after a broken connection. */
const AGAIN_MS = 10000;

const listeners = new Set();
let source = null;
let state = "off";
let onState = () => {};

/** Opens the stream. `listener(state)` hears `live`, `waiting` and `off`. */
export function start(listener) {
  onState = listener;
  open();
}

export function stop() {
  source?.close();
  source = null;
  tell("off");
}

/** Calls `listener(event)` for each event, until `signal` aborts. */
export function listen(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

export function isLive() {
  return state === "live";
}

function open() {
  source?.close();
  source = new EventSource("v1/events");
  source.addEventListener("open", () => tell("live"));
  source.addEventListener("error", (event) => {
    tell("waiting");
    if (event.target.readyState === EventSource.CLOSED) {
      setTimeout(() => event.target === source && open(), AGAIN_MS);
    }
  });
  for (const kind of KINDS) source.addEventListener(kind, (event) => hear(kind, event));
}

function hear(kind, event) {
  let data = {};
  try {
    data = JSON.parse(event.data);
  } catch {
    return;
  }
  for (const listener of listeners) listener({ ...data, kind });
}

function tell(next) {
  state = next;
  onState(next);
}
