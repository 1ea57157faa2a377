// The door: a token becomes a cookie that scripts cannot read.

import { post } from "../api.js";
import { errorNote } from "../dialog.js";
import { h } from "../dom.js";

/** `entered()` is called when the host knows who this is. */
export function login(entered) {
  const problem = h("div");
  const token = h("input", {
    id: "token", name: "token", type: "password", required: true, autocomplete: "current-password", spellcheck: "false",
  });
  const submit = h("button.primary", { type: "submit" }, "Log in");
  const enter = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.replaceChildren();
    try {
      await post("login", { token: token.value.trim() });
      token.value = "";
      await entered();
    } catch (error) {
      problem.replaceChildren(errorNote(error));
      submit.disabled = false;
      token.select();
    }
  };
  document.title = "Log in · nanorelay";
  return h("main.door", {},
    h("img", { src: "assets/icon.svg", alt: "", width: "40", height: "40" }),
    h("h1", {}, "nanorelay"),
    h("form", { onsubmit: enter },
      h("label.field", { for: "token" }, h("span", {}, "Token"), token),
      h("p.quiet", {}, "An operator makes one: ", h("code", {}, "nanorelay token create")),
      problem, submit));
}
