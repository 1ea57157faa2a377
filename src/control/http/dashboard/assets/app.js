// The frame of all pages: who is logged in, which page is shown, and whether the host is there.

import { Offline, Problem, get, may, onContact, post, session } from "./api.js";
import { button, h, time } from "./dom.js";
import { errorNote, isOpen, toast } from "./dialog.js";
import * as events from "./events.js";
import { PAGES } from "./pages.js";
import { login } from "./pages/login.js";

const byId = (id) => document.getElementById(id);
/** Events come in crowds: a page loads again at most so often because of them. */
const REFRESH_MS_MIN = 1000;

/** What ends when another page is shown. */
let leaving = new AbortController();
let lastContact = null;

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { name: parts[0] || "overview", parts: parts.slice(1), query: new URLSearchParams(query) };
}

/** What a page can do. */
function context(current, signal) {
  const plain = () => {
    const values = {};
    for (const name of new Set(current.query.keys())) {
      const all = current.query.getAll(name);
      values[name] = all.length > 1 ? all : all[0];
    }
    return values;
  };
  return {
    parts: current.parts,
    query: current.query,
    signal,
    plain,
    all: (name) => current.query.getAll(name),
    /** Shows the same page with other filters. */
    setQuery(values) {
      const query = new URLSearchParams();
      for (const [name, value] of Object.entries(values)) {
        for (const one of Array.isArray(value) ? value : [value]) if (one) query.append(name, one);
      }
      const text = query.toString();
      location.hash = `#/${[current.name, ...current.parts.map(encodeURIComponent)].join("/")}${text ? `?${text}` : ""}`;
    },
    refresh: (load, when) => refresh(load, when, signal),
    onEvent: (listener) => events.listen(listener, signal),
    again: () => show(),
    onLeave: (act) => signal.addEventListener("abort", act),
  };
}

/** Loads now, when one of `events` happens, and every so many milliseconds while somebody looks. */
function refresh(load, { events: kinds = [], every = 15000 } = {}, signal) {
  let isLoading = false;
  let isWanted = false;
  let loadedAt = 0;
  const run = async () => {
    if (isLoading || document.hidden || isOpen()) {
      isWanted = true;
      return;
    }
    isLoading = true;
    isWanted = false;
    try {
      await load();
      byId("page-error")?.replaceChildren();
    } catch (error) {
      failed(error, signal);
    }
    loadedAt = performance.now();
    isLoading = false;
  };
  const timer = setInterval(() => {
    const age = performance.now() - loadedAt;
    if ((isWanted && age > REFRESH_MS_MIN) || age > every) run();
  }, 250);
  signal.addEventListener("abort", () => clearInterval(timer));
  if (kinds.length) {
    events.listen((event) => {
      isWanted ||= kinds.includes(event.kind) || event.kind === "overflow" || event.kind === "reset";
    }, signal);
  }
  run();
}

function failed(error, signal) {
  if (error.name === "AbortError" || signal.aborted || error instanceof Offline) return;
  if (error instanceof Problem && error.status === 401) {
    enter();
    return;
  }
  byId("page-error")?.replaceChildren(errorNote(error));
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const current = route();
  const page = PAGES.find((candidate) => candidate.name === current.name) || PAGES[0];
  for (const item of byId("nav").querySelectorAll("a")) {
    const isCurrent = item.dataset.page === (page.under || page.name);
    if (isCurrent) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  const main = byId("main");
  const body = h(".page");
  main.replaceChildren(h("div", { id: "page-error" }), body);
  document.title = `${page.title} · nanorelay`;
  const ctx = context(current, signal);
  ctx.setTitle = (title) => {
    document.title = `${title} · nanorelay`;
  };
  try {
    body.append(await page.render(ctx));
  } catch (error) {
    failed(error, signal);
  }
}

function drawNavigation() {
  const items = PAGES.filter((page) => page.nav && may(page.scope || "read"));
  byId("nav").replaceChildren(...items.map((page) =>
    h("li", {}, h("a", { href: `#/${page.name}`, "data-page": page.name }, page.title))));
  const { me } = session;
  const scope = (me.scopes || []).at(-1) || "read";
  const live = h("span", { id: "live", role: "status" }, "connecting");
  const parts = [h("p", {}, h("span.dot", { id: "live-dot" }), live), themeSwitch(), h("p.who", {}, `${me.name} (${scope})`)];
  if (me.auth === "cookie") parts.push(button("Log out", logout, { tone: "plain" }));
  byId("side-foot").replaceChildren(...parts);
}

function themeSwitch() {
  const root = document.documentElement;
  const choose = (event) => {
    root.dataset.theme = event.target.value;
    try {
      localStorage.setItem("nanorelay-theme", event.target.value);
    } catch {
      toast("this browser does not keep the choice", "warn");
    }
  };
  const options = [["auto", "System colours"], ["light", "Light"], ["dark", "Dark"]].map(([value, label]) =>
    h("option", { value, selected: value === root.dataset.theme }, label));
  return h("label.theme", {}, h("span.unseen", {}, "Colours"), h("select", { id: "theme", onchange: choose }, options));
}

async function logout() {
  try {
    await post("logout");
  } catch (error) {
    if (!(error instanceof Problem)) return;
  }
  location.hash = "";
  enter();
}

function streamState(state) {
  const words = { live: "live", waiting: "reconnecting", off: "not connected" };
  const dot = byId("live-dot");
  if (!dot) return;
  dot.className = `dot ${state}`;
  byId("live").textContent = words[state];
}

function contacted(isOnline) {
  const banner = byId("banner");
  if (isOnline) {
    lastContact = new Date();
    if (banner.firstChild) banner.replaceChildren();
  } else if (!banner.firstChild) {
    const since = lastContact ? [" What you see is from ", time(lastContact.toISOString()), "."] : [];
    banner.replaceChildren(h("p.note.warn", {}, h("strong", {}, "The host does not answer."), ...since, " Trying again."));
  }
}

/** Finds out who this is; asks for a token when nobody knows. */
async function enter() {
  leaving.abort();
  events.stop();
  try {
    session.me = await get("me");
  } catch (error) {
    byId("shell").hidden = true;
    byId("door").hidden = false;
    if (error instanceof Problem && error.status === 401) {
      byId("door").replaceChildren(login(enter));
    } else {
      byId("door").replaceChildren(h("main.door", {}, h("h1", {}, "nanorelay"), errorNote(error), button("Try again", enter)));
    }
    return;
  }
  byId("door").hidden = true;
  byId("door").replaceChildren();
  byId("shell").hidden = false;
  drawNavigation();
  events.start(streamState);
  await show();
}

window.addEventListener("hashchange", () => {
  if (session.me && !byId("shell").hidden) {
    show().then(() => byId("main").focus({ preventScroll: true }));
  }
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // The address is the page's: the link must not change it.
  event.preventDefault();
  byId("main").focus();
});
onContact(contacted);
enter();
