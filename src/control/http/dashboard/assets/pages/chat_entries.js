// How entries of a chat look. Edits, deletions, reactions and answers are shown at what they are about.

import { may } from "../api.js";
import { button, bytes, h, pretty, time } from "../dom.js";

const EMOJI = {
  thumbs_up: "👍", "+1": "👍", thumbs_down: "👎", "-1": "👎", heart: "❤️", eyes: "👀", tada: "🎉", fire: "🔥", rocket: "🚀",
  white_check_mark: "✅", check: "✅", x: "❌", warning: "⚠️", wave: "👋", pray: "🙏", clap: "👏", thinking: "🤔", joy: "😂", smile: "😄",
};

/** Draws all entries; an element whose entry has not changed stays, so that nothing is read out twice. */
export function drawEntries(list, entries, actions) {
  const shown = folded(entries);
  const known = new Map(Array.from(list.children, (element) => [element.dataset.number, element]));
  const elements = shown.map((item) => {
    const mark = JSON.stringify([item.entry, item.content, item.isDeleted, item.reactions, item.answer, item.isEdited]);
    const number = String(item.entry.number);
    const old = known.get(number);
    if (old?.mark === mark) return old;
    const element = h(`li.entry.${item.entry.author}`, { "data-number": number }, bubble(item, actions));
    element.mark = mark;
    return element;
  });
  if (!elements.length) {
    list.replaceChildren(h("li.empty", {}, "Nothing was said yet."));
    return;
  }
  // Elements that stay are not touched.
  const wanted = new Set(elements);
  for (const child of Array.from(list.children)) if (!wanted.has(child)) child.remove();
  elements.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] || null);
  });
}

/** The entries that stand for themselves, with what later ones did to them. */
function folded(entries) {
  const shown = new Map();
  const questions = new Map();
  for (const entry of entries) {
    const { content } = entry;
    const target = shown.get(entry.target);
    if (content.type === "question_response") {
      const question = questions.get(content.questionId);
      if (question) question.answer = content.selectedOption;
      shown.set(entry.number, { entry, content, reactions: [], isAnswer: true });
    } else if (content.operation === "edit" && target) {
      target.content = edited(target.content, content);
      target.isEdited = true;
    } else if (content.operation === "delete" && target) {
      target.isDeleted = true;
    } else if (content.operation === "reaction" && target) {
      target.reactions.push(content.emoji);
    } else {
      const item = { entry, content, reactions: [] };
      shown.set(entry.number, item);
      if (content.type === "ask_question") questions.set(content.questionId, item);
    }
  }
  return Array.from(shown.values());
}

function edited(before, edit) {
  const { text: _text, markdown: _markdown, ...rest } = before;
  const { operation: _operation, messageId: _messageId, ...changed } = edit;
  return { ...rest, ...changed };
}

function bubble(item, actions) {
  const { entry } = item;
  const who = entry.author === "agent" ? "Agent" : entry.name || "You";
  const below = [h("span.who", {}, who), time(entry.at)];
  if (item.isEdited) below.push(h("span", {}, "edited"));
  if (entry.state === "sending") below.push(h("span.warn-text", {}, "on its way"));
  const failed = entry.state === "failed" ? h("p.note.bad", {}, `The agent did not get this: ${entry.error}`) : null;
  return h(".bubble", {}, said(item, actions), files(entry, actions), failed, reactions(item.reactions), h("p.below", {}, below));
}

function reactions(names) {
  if (!names.length) return null;
  return h("p.reactions", {}, names.map((name) => h("span", { role: "img", "aria-label": `reaction ${name}` }, EMOJI[name] || `:${name}:`)));
}

function files(entry, actions) {
  if (!entry.files?.length) return null;
  return h("ul.files", {}, entry.files.map((file, index) =>
    h("li", {}, h("a", { href: actions.fileAddress(entry, index), download: file.name }, file.name), ` ${bytes(file.size)}`)));
}

function said(item, actions) {
  const { content } = item;
  if (item.isDeleted) return h("p.quiet", {}, "This message was deleted.");
  if (item.isAnswer) return h("p.text", {}, content.selectedOption);
  if (content.operation) return h("p.quiet", {}, `${content.operation} of a message that is not here: ${content.text || content.emoji || ""}`);
  if (content.type === "ask_question") return question(item, actions);
  if (content.type === "card") return card(content);
  const text = content.text ?? content.markdown;
  if (typeof text === "string") return text ? h("p.text", {}, text) : null;
  return h("pre", { tabindex: "0" }, pretty(content));
}

function question(item, actions) {
  const { content, entry } = item;
  const options = (content.options || []).map((option) =>
    (typeof option === "string" ? { label: option, value: option } : { ...option, value: option.value ?? option.label }));
  const isOpen = item.answer === undefined && may("operate");
  const buttons = options.map((option) => {
    const isChosen = item.answer === option.value;
    return button(isChosen ? option.selectedLabel || option.label : option.label, () => actions.answer(entry, option.value), {
      disabled: !isOpen, tone: isChosen ? "primary" : null, "aria-pressed": isChosen ? "true" : null,
    });
  });
  return h("div", {}, content.title ? h("h2", {}, content.title) : null, h("p.text", {}, content.question || ""), h(".options", {}, buttons));
}

function card(content) {
  const inner = content.card || {};
  const lines = (inner.children || []).map((child) => (typeof child === "string" ? child : child?.text)).filter(Boolean);
  const links = (inner.actions || []).map((action) => {
    // Only addresses of the web: a link of an agent must not run anything.
    const isWeb = /^https?:[/][/]/i.test(action.url || "");
    return isWeb ? h("a.button", { href: action.url, rel: "noopener noreferrer nofollow", target: "_blank" }, action.label || action.url) : h("span.quiet", {}, action.label || "");
  });
  if (!inner.title && !inner.description && !lines.length) return h("p.text", {}, content.fallbackText || "");
  return h(".card", {}, inner.title ? h("h2", {}, inner.title) : null, inner.description ? h("p.text", {}, inner.description) : null,
    lines.map((line) => h("p.text", {}, line)), h(".options", {}, links));
}
