// Requests to the API. Every address is relative to the page, so that the dashboard works under any path.

/** A refusal of the host, in its own words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the host answered ${status}`);
    this.status = status;
    this.title = body.title || "The host refused this";
    this.name = String(body.type || "").split(":").pop();
  }
}

/** The host did not answer at all. */
export class Offline extends Error {
  constructor() {
    super("the host does not answer");
  }
}

/** Who is logged in; set by the login. */
export const session = { me: null };

const listeners = new Set();
/** Calls `listener(isOnline)` after each request. */
export function onContact(listener) {
  listeners.add(listener);
}
function contact(isOnline) {
  for (const listener of listeners) listener(isOnline);
}

/** A random text; also where the browser offers no `randomUUID`, as on plain HTTP. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const part = encodeURIComponent;

/** `{a: 1, b: [2, 3], c: ""}` as `?a=1&b=2&b=3`; what is empty is left out. */
export function queryText(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    contact(false);
    throw new Offline();
  }
  contact(true);
  if (response.ok) return response.status === 204 ? null : response.json();
  let body = {};
  try {
    body = await response.json();
  } catch {
    // An answer of something between us and the host.
  }
  throw new Problem(response.status, body);
}

export function get(path, query = {}, signal = undefined) {
  return send(`v1/${path}${queryText(query)}`, { signal, headers: { Accept: "application/json" } });
}

/** A change. The same `key` for each try of the same wish: it is then done once. */
export function post(path, body = {}, key = randomKey()) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  if (session.me?.csrf_token) headers["X-CSRF-Token"] = session.me.csrf_token;
  return send(`v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

const SCOPES = ["read", "operate", "admin"];
/** Whether the user may do what needs `scope`. */
export function may(scope) {
  const held = (session.me?.scopes || []).map((name) => SCOPES.indexOf(name));
  return Math.max(-1, ...held) >= SCOPES.indexOf(scope);
}
