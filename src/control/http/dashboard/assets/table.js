// Tables of records, and lists that the server pages.

import { get } from "./api.js";
import { badge, button, h } from "./dom.js";

/**
 * A table with a caption. A column is `{title, cell(row), number, className}`; `key(row)` names a row, so that the focus
 * stays where it is when the table is drawn anew.
 */
export function table({ caption, columns, rows, empty, key = () => "", hideCaption = false }) {
  if (!rows.length) return h("p.empty", {}, empty || "Nothing here.");
  const header = columns.map((column) =>
    h(`th${column.number ? ".number" : ""}`, { scope: "col" }, column.title || h("span.unseen", {}, column.label || "Actions")));
  const body = rows.map((row) => {
    const cells = columns.map((column, index) => {
      const cell = h(`td${column.number ? ".number" : ""}${column.className ? `.${column.className}` : ""}`, {}, column.cell(row));
      for (const [place, inner] of cell.querySelectorAll("a, button, input, summary").entries()) {
        inner.dataset.focus = `${key(row)}/${index}/${place}`;
      }
      return cell;
    });
    return h("tr", {}, cells);
  });
  const element = h("table", {},
    h(`caption${hideCaption ? ".unseen" : ""}`, {}, caption), h("thead", {}, h("tr", {}, header)), h("tbody", {}, body));
  return h(".scroll", { tabindex: "0", role: "region", "aria-label": caption }, element);
}

/** Puts new children into an element; the focus stays on the same record, and what is open stays open. */
export function redraw(element, ...children) {
  const focused = document.activeElement?.closest("[data-focus]");
  const name = focused && element.contains(focused) ? focused.dataset.focus : null;
  const open = new Set(Array.from(element.querySelectorAll("details[open] > summary[data-focus]"), (one) => one.dataset.focus));
  element.replaceChildren(...children.flat().filter(Boolean));
  for (const summary of open.size ? element.querySelectorAll("summary[data-focus]") : []) {
    if (open.has(summary.dataset.focus)) summary.parentElement.open = true;
  }
  if (name === null) return;
  for (const candidate of element.querySelectorAll("[data-focus]")) {
    if (candidate.dataset.focus === name) candidate.focus();
  }
}

/** A form of filters. A field is `{name, label, type, options, placeholder}`. They stand in the page's address. */
export function filters(ctx, fields) {
  const form = h("form.filters", { role: "search", "aria-label": "Filter" });
  const apply = () => {
    const query = {};
    for (const field of fields) {
      const value = field.multiple
        ? Array.from(form.querySelectorAll(`[name="${field.name}"]:checked`), (box) => box.value)
        : form.elements[field.name].value.trim();
      query[field.name] = value;
    }
    ctx.setQuery(query);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  for (const field of fields) form.append(filterField(ctx, field, apply));
  const isFiltered = fields.some((field) => ctx.all(field.name).length > 0);
  form.append(h("button", { type: "submit" }, "Filter"));
  if (isFiltered) form.append(button("Clear", () => ctx.setQuery({}), { tone: "plain" }));
  return form;
}

function filterField(ctx, field, apply) {
  const value = ctx.query.get(field.name) || "";
  if (field.multiple) {
    const chosen = ctx.all(field.name);
    const boxes = field.options.map((option) =>
      h("label.check", {}, h("input", { type: "checkbox", name: field.name, value: option, checked: chosen.includes(option), onchange: apply }), badge(option)));
    return h("fieldset", {}, h("legend", {}, field.label), boxes);
  }
  if (field.options) {
    const options = [h("option", { value: "" }, "any"), ...field.options.map((option) =>
      h("option", { value: option, selected: option === value }, option.replaceAll("_", " ")))];
    return h("label", {}, field.label, h("select", { name: field.name, onchange: apply }, options));
  }
  const input = { name: field.name, type: field.type || "search", value, placeholder: field.placeholder, autocomplete: "off" };
  return h("label", {}, field.label, h("input", input));
}

const PAGE_SIZES = ["50", "100", "200"];

/**
 * A list that the server pages: it never holds more than one page. `draw(items)` makes the table. Loads again when one of
 * `events` happens, and now and then.
 */
export function pagedList(ctx, { path, query, draw, events = [] }) {
  const place = h(".list", { "aria-busy": "true" }, h("p.empty", {}, "Loading…"));
  const pager = h("nav.pager", { "aria-label": "Pages of the list" });
  let shown = null;
  const load = async () => {
    const limit = ctx.query.get("limit") || PAGE_SIZES[0];
    const page = await get(path, { ...query(), limit, cursor: ctx.query.get("cursor") }, ctx.signal);
    place.removeAttribute("aria-busy");
    const text = JSON.stringify(page);
    if (text === shown) return;
    shown = text;
    redraw(place, draw(page.items, page));
    redraw(pager, pagerParts(ctx, page, limit));
  };
  ctx.refresh(load, { events, every: 15000 });
  return h("div", {}, place, pager);
}

function pagerParts(ctx, page, limit) {
  const cursor = ctx.query.get("cursor");
  const first = button("First page", () => ctx.setQuery({ ...ctx.plain(), cursor: "" }), { disabled: !cursor, "data-focus": "first" });
  const next = button("Next page", () => ctx.setQuery({ ...ctx.plain(), cursor: page.next_cursor }), { disabled: !page.next_cursor, "data-focus": "next" });
  const sizes = PAGE_SIZES.map((size) => h("option", { value: size, selected: size === limit }, size));
  const size = h("label", {}, "Rows ", h("select", {
    "data-focus": "size",
    onchange: (event) => ctx.setQuery({ ...ctx.plain(), cursor: "", limit: event.target.value }),
  }, sizes));
  const total = `${page.items.length} on this page${page.next_cursor ? ", more follow" : ""}`;
  return [h("span.quiet", {}, total), size, first, next];
}
