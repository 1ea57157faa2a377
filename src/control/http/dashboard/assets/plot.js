// A small plot over time, drawn as wide as its place. The same figures stand in a table beside it.

import { count, duration, h, svg } from "./dom.js";

const HEIGHT = 150;
const LEFT = 54;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;
const TABLE_ROWS_MAX = 60;

/** The next of 2, 4, 6, 8, 10, 20, …: half of it is a whole number, too. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [2, 4, 6, 8, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}

function hour(at) {
  return new Date(at).toISOString().slice(11, 16);
}

/** Lines are broken where there is nothing to show. */
function path(points, x, y) {
  let text = "";
  let isDown = false;
  points.forEach((value, index) => {
    if (value === null || value === undefined) {
      isDown = false;
      return;
    }
    text += `${isDown ? "L" : "M"}${x(index).toFixed(1)},${y(value).toFixed(1)}`;
    isDown = true;
  });
  return text;
}

/**
 * `series` are `{name, tone, kind, values}` with `kind` "line" or "bar"; `unit` writes a value. `at` are the times.
 */
export function plot({ title, at, series, unit = count }) {
  const place = h(".plot");
  const draw = () => {
    const width = Math.max(place.clientWidth, 240);
    place.replaceChildren(picture(title, at, series, unit, width));
  };
  const observer = new ResizeObserver(draw);
  observer.observe(place);
  const legend = h("ul.legend", { "aria-hidden": "true" }, series.map((one) => h("li", {}, h(`span.swatch.${one.tone}`), one.name)));
  return h("figure", {}, h("figcaption", {}, title, legend), place, dataTable(title, at, series, unit));
}

function picture(title, at, series, unit, width) {
  const top = roundUp(Math.max(1, ...series.flatMap((one) => one.values.map((value) => value ?? 0))));
  const span = width - LEFT - RIGHT;
  const step = span / Math.max(at.length - 1, 1);
  const x = (index) => LEFT + index * step;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const line = y(top * share);
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: line, y2: line }));
    parts.push(svg("text", { x: LEFT - 6, y: line + 4, "text-anchor": "end" }, unit(top * share)));
  }
  const labels = Math.max(2, Math.min(7, Math.floor(span / 90)));
  for (let n = 0; n < labels && at.length > 1; n += 1) {
    const index = Math.round((n * (at.length - 1)) / (labels - 1));
    const anchor = n === 0 ? "start" : n === labels - 1 ? "end" : "middle";
    parts.push(svg("text", { x: x(index), y: HEIGHT - 5, "text-anchor": anchor }, hour(at[index])));
  }
  for (const one of series) {
    if (one.kind === "bar") {
      const thick = Math.max(1, Math.min(step * 0.7, 14));
      one.values.forEach((value, index) => {
        if (!value) return;
        const left = Math.min(Math.max(x(index) - thick / 2, LEFT), width - RIGHT - thick);
        parts.push(svg("rect", { class: `bar ${one.tone}`, x: left, y: y(value), width: thick, height: Math.max(1, y(0) - y(value)) }));
      });
    } else {
      parts.push(svg("path", { class: `line ${one.tone}`, d: path(one.values, x, y) }));
      one.values.forEach((value, index) => {
        // A point without neighbours would be no line.
        const isAlone = (one.values[index - 1] ?? null) === null && (one.values[index + 1] ?? null) === null;
        if (value !== null && value !== undefined && isAlone) {
          parts.push(svg("circle", { class: `point ${one.tone}`, cx: x(index), cy: y(value), r: 2 }));
        }
      });
    }
  }
  const newest = series.map((one) => `${one.name} ${unit(one.values.findLast((value) => value !== null && value !== undefined) ?? 0)}`);
  const label = `${title}, from ${at.length ? hour(at[0]) : "–"} to ${at.length ? hour(at.at(-1)) : "–"} UTC. Newest: ${newest.join(", ")}.`;
  return svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label }, ...parts);
}

function dataTable(title, at, series, unit) {
  const rows = at.map((time, index) => ({ time, values: series.map((one) => one.values[index]) })).slice(-TABLE_ROWS_MAX).reverse();
  const body = rows.map((row) => h("tr", {}, h("th", { scope: "row" }, `${hour(row.time)} UTC`),
    row.values.map((value) => h("td.number", {}, value === null || value === undefined ? "–" : unit(value)))));
  return h("details", {}, h("summary", {}, "As a table"),
    h(".scroll.short", { tabindex: "0", role: "region", "aria-label": `${title}, as a table` },
      h("table", {}, h("caption.unseen", {}, title),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), series.map((one) => h("th.number", { scope: "col" }, one.name)))),
        h("tbody", {}, body))));
}

export const milliseconds = duration;
