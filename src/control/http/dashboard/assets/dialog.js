// Questions before a change, and short messages after it.

import { Problem, randomKey } from "./api.js";
import { button, h } from "./dom.js";

const TOAST_MS = 6000;

/** Says what happened, for a moment. Screen readers hear it too. */
export function toast(text, tone = "good") {
  const note = h(`p.toast.${tone}`, {}, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), TOAST_MS);
}

/** An error in words, for a place on the page. */
export function errorNote(error) {
  const title = error instanceof Problem ? error.title : "This did not work";
  return h(".note.bad", { role: "alert" }, h("strong", {}, title), " ", h("span", {}, sentence(error.message)));
}

function sentence(text) {
  const words = String(text);
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

/**
 * Asks before a change. `fields` are `{name, label, type, value, options, required, hint}`; a reason is always asked for,
 * unless `reason` is false. `act(values, key)` does it; while it fails, the dialog stays and says why.
 */
export function ask({ title, text, fields = [], confirm = "Confirm", tone = "primary", reason = true, extra = null, act, done }) {
  const all = reason ? [...fields, { name: "reason", label: "Reason", hint: "Optional. The audit keeps it.", maxlength: 500 }] : fields;
  // The same wish has the same key: a second try after a broken connection is no second change.
  const key = randomKey();
  const problem = h("div");
  const yes = h(`button.${tone}`, { type: "submit" }, confirm);
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title),
    text ? h("p", {}, text) : null, extra, all.map(formField), problem,
    h(".buttons", {}, button("Cancel", () => dialog.close(), { tone: "plain" }), yes));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  const opener = document.activeElement;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    problem.replaceChildren();
    try {
      const answer = await act(values(form, all), key);
      dialog.close();
      done?.(answer);
    } catch (error) {
      problem.replaceChildren(errorNote(error));
      yes.disabled = false;
      yes.focus();
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, form, yes };
}

export function isOpen() {
  return document.querySelector("dialog[open]") !== null;
}

function formField(field) {
  const common = { name: field.name, required: Boolean(field.required), maxlength: field.maxlength ? String(field.maxlength) : null };
  let input;
  if (field.options) {
    input = h("select", common, field.options.map(([value, label]) => h("option", { value, selected: value === field.value }, label)));
  } else if (field.type === "textarea") {
    input = h("textarea", { ...common, rows: "4" }, field.value || "");
  } else {
    input = h("input", { ...common, type: field.type || "text", value: field.value || "", placeholder: field.placeholder, autocomplete: "off" });
  }
  return h("label.field", {}, h("span", {}, field.label), input, field.hint ? h("small", {}, field.hint) : null);
}

function values(form, fields) {
  const found = {};
  for (const field of fields) {
    const value = form.elements[field.name].value.trim();
    if (value !== "") found[field.name] = value;
  }
  return found;
}
