// A person talks to the agent of a session.

import { Problem, get, may, part, post, queryText, randomKey } from "../api.js";
import { errorNote, toast } from "../dialog.js";
import { button, h, head, link } from "../dom.js";
import { drawEntries } from "./chat_entries.js";

const PAGE = 100;
/** Entries that are kept on the page. */
const KEPT_MAX = 2000;

export async function chat(ctx) {
  const id = ctx.parts[0] || "";
  const room = new Room(ctx, id);
  ctx.setTitle(`Chat with ${id}`);
  const top = head(`Chat with ${id}`, [h("a.button", { href: `#/session/${part(id)}` }, "Session")]);
  try {
    await room.load();
  } catch (error) {
    if (!(error instanceof Problem) || error.status === 401) throw error;
    return h("div", {}, top, errorNote(error), h("p", {}, link(`#/session/${part(id)}`, "To the session")));
  }
  room.listen();
  return h(".chat", {}, top, room.element());
}

class Room {
  constructor(ctx, id) {
    this.ctx = ctx;
    this.path = `chat/${part(id)}`;
    this.entries = new Map();
    this.hasEarlier = false;
    this.list = h("ol");
    this.log = h(".talk", { role: "log", "aria-label": "Conversation", "aria-live": "polite", tabindex: "0" }, this.list);
    this.problem = h("div");
    this.earlier = button("Earlier messages", () => this.loadEarlier(), { tone: "plain" });
    this.input = h("textarea", { id: "say", rows: "2", maxlength: "20000", placeholder: "Write a message", "aria-label": "Message", enterkeyhint: "send" });
  }

  element() {
    const form = h("form.say", {}, this.input, h("button.primary", { type: "submit" }, "Send"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.say();
      }
    });
    this.draw();
    setTimeout(() => {
      this.toEnd();
      this.input.focus();
    });
    const below = may("operate") ? form : h("p.quiet", {}, "Your token may read only.");
    return [this.earlier, this.log, this.problem, below];
  }

  async load() {
    const page = await get(`${this.path}/messages`, { limit: PAGE }, this.ctx.signal);
    this.take(page.items);
    this.hasEarlier = page.has_more;
  }

  async loadEarlier() {
    const oldest = Math.min(...this.entries.keys());
    try {
      const page = await get(`${this.path}/messages`, { limit: PAGE, before: oldest }, this.ctx.signal);
      const height = this.log.scrollHeight;
      this.take(page.items);
      this.hasEarlier = page.has_more && this.entries.size < KEPT_MAX;
      this.draw();
      this.log.scrollTop = this.log.scrollHeight - height;
    } catch (error) {
      this.problem.replaceChildren(errorNote(error));
    }
  }

  /** The browser opens a broken stream again by itself, and tells which entry it has seen last. */
  listen() {
    const newest = Math.max(0, ...this.entries.keys());
    const source = new EventSource(`v1/${this.path}/events${queryText({ after: newest })}`);
    source.addEventListener("entry", (event) => {
      const isAtEnd = this.isAtEnd();
      this.take([JSON.parse(event.data)]);
      this.draw();
      if (isAtEnd) this.toEnd();
    });
    this.ctx.onLeave(() => source.close());
  }

  take(items) {
    for (const entry of items) this.entries.set(entry.number, entry);
    while (this.entries.size > KEPT_MAX) this.entries.delete(Math.min(...this.entries.keys()));
  }

  draw() {
    this.earlier.hidden = !this.hasEarlier;
    const sorted = Array.from(this.entries.values()).sort((a, b) => a.number - b.number);
    drawEntries(this.list, sorted, {
      fileAddress: (entry, index) => `v1/${this.path}/files/${entry.number}/${index}`,
      answer: (entry, option) => this.answer(entry, option),
      again: (entry) => this.send(entry.content.text, entry.key),
    });
  }

  isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  async say() {
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    const wasSent = await this.send(text, randomKey());
    if (!wasSent && !this.input.value) this.input.value = text;
    this.input.focus();
  }

  /** The same id for each try: the agent finds the message once. */
  async send(text, id) {
    this.problem.replaceChildren();
    try {
      const entry = await post(`${this.path}/messages`, { text, id }, id);
      this.take([entry]);
      this.draw();
      this.toEnd();
      return true;
    } catch (error) {
      this.problem.replaceChildren(errorNote(error));
      return false;
    }
  }

  async answer(entry, option) {
    try {
      const answered = await post(`${this.path}/answers`, { question_id: entry.content.questionId, selected_option: option });
      this.take([answered]);
      this.draw();
    } catch (error) {
      toast(error.message, "bad");
    }
  }
}
