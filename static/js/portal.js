// Small comforts. Every page works without them; nothing here decides anything.
"use strict";

(() => {
  // Show what only makes sense with JavaScript; also in what htmx brings in later.
  const prepare = (root) => {
    for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
    for (const time of root.querySelectorAll("time[datetime][title]")) addLocalTime(time);
    for (const form of root.querySelectorAll("[data-scope-count]")) countScopes(form);
    for (const box of root.querySelectorAll("input[data-filter][hidden], [data-needs-js][hidden]")) box.hidden = false;
    root.querySelector("[data-focus]")?.focus();
  };

  // <time title="2025-03-03 09:12:33 UTC">: add the reader's own clock.
  const addLocalTime = (time) => {
    if (time.dataset.local) return;
    const at = new Date(time.getAttribute("datetime"));
    if (Number.isNaN(at.getTime())) return;
    time.dataset.local = "yes";
    time.title += `\n${at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })} here`;
  };

  // <button data-copy="text">, or data-copy-from="id" for a text that changes.
  const copy = async (button) => {
    const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    const text = source ? (source.value ?? source.textContent.trim()) : button.dataset.copy;
    const said = (await copyText(text)) ? "Copied" : "Press Ctrl+C";
    const before = button.dataset.before ?? button.textContent;
    button.dataset.before = before;
    button.textContent = said;
    announce(said);
    clearTimeout(button.timer);
    button.timer = setTimeout(() => { button.textContent = before; }, 2000);
  };

  const copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Plain http, or no permission: the way of old.
      const before = document.activeElement;
      const area = document.createElement("textarea");
      area.value = text;
      area.readOnly = true;
      area.className = "visually-hidden";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      before?.focus({ preventScroll: true });
      return done;
    }
  };

  // One quiet voice for screen readers.
  const announce = (text) => {
    let voice = document.getElementById("voice");
    if (!voice) {
      voice = document.createElement("div");
      voice.id = "voice";
      voice.className = "visually-hidden";
      voice.setAttribute("aria-live", "polite");
      document.body.append(voice);
    }
    voice.textContent = "";
    setTimeout(() => { voice.textContent = text; }, 50);
  };

  // <form data-submit-once>: a double click sends once. The buttons stay enabled, so that their name is sent.
  const submitOnce = (event) => {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    (event.submitter ?? form.querySelector("[type=submit]"))?.setAttribute("aria-busy", "true");
  };
  const forgetSubmits = () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
    }
  };

  // <form data-scope-count="50">: [data-scope-total] counts all ticks, [data-scope-group] in a fieldset its own,
  // [data-scope-warning] shows itself near the limit, [data-scope-list] holds the chosen names, to copy;
  // data-scope-separator joins them, data-scope-only="Jira" keeps one fieldset (its data-group).
  const countScopes = (form) => {
    const ticks = [...form.querySelectorAll(".scopes input[type=checkbox]")];
    const chosen = ticks.filter((tick) => tick.checked);
    const limit = Number(form.dataset.scopeCount) || 50;
    for (const total of form.querySelectorAll("[data-scope-total]")) total.textContent = String(chosen.length);
    for (const warning of form.querySelectorAll("[data-scope-warning]")) warning.hidden = chosen.length < limit - 10;
    for (const group of form.querySelectorAll(".scopes")) {
      const label = group.querySelector("[data-scope-group]");
      if (!label) continue;
      const own = [...group.querySelectorAll("input[type=checkbox]")];
      label.textContent = `${own.filter((tick) => tick.checked).length} of ${own.length}`;
    }
    for (const list of document.querySelectorAll("[data-scope-list]")) {
      const only = list.dataset.scopeOnly;
      const kept = chosen.filter((tick) => !only || tick.closest("[data-group]")?.dataset.group === only);
      list.textContent = kept.map((tick) => tick.value).join(list.dataset.scopeSeparator ?? " ") || list.dataset.scopeNone || "";
      const copies = document.querySelector(`[data-copy-from="${list.id}"]`);
      if (copies) copies.disabled = kept.length === 0;
    }
  };

  // <input data-filter="id">: keep the children of #id whose text (or data-words) holds every word typed.
  const filter = (input) => {
    const list = document.getElementById(input.dataset.filter);
    if (!list) return;
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of list.children) {
      const text = (item.dataset.words ?? item.textContent).toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
      if (!item.hidden) shown += 1;
    }
    const none = document.querySelector(`[data-filter-none="${input.dataset.filter}"]`);
    if (none) none.hidden = shown > 0;
  };

  // A menu closes when one goes elsewhere, by a click or the Tab key: it would lie on what has the focus then.
  const closeMenusWithout = (target) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.open = false;
    }
  };

  // A link of the error summary leads to its field, and not by the address: #id_name would stay there when the form is
  // sent, and the page after it would begin at that field, its good news out of sight.
  const goToField = (event) => {
    const field = document.getElementById(event.target.closest(".error-summary a[href^='#']")?.hash.slice(1));
    if (!field) return;
    event.preventDefault();
    const details = field.closest("details:not([open])");
    if (details) details.open = true;
    field.focus();
    // A group of ticks takes no focus itself.
    if (document.activeElement !== field) field.querySelector("input, select, textarea")?.focus();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-copy-from]");
    if (button) copy(button);
    closeMenusWithout(event.target);
    goToField(event);
  });
  document.addEventListener("focusin", (event) => closeMenusWithout(event.target));
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-submit-once]")) submitOnce(event);
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("[data-scope-count]");
    if (form) countScopes(form);
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-filter]")) filter(event.target);
  });
  // allauth's passkey scripts: cancelled, timed out, or no key at hand.
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const region = document.querySelector(".messages");
    if (!region) return;
    const note = document.createElement("p");
    note.className = "message warning";
    note.textContent = "The browser got no answer from a key. Try again, or use another way.";
    region.replaceChildren(note);
  });
  // <div data-poll hx-get hx-trigger="every 15s, poll">: asks only while it can be seen, and never takes away what
  // somebody is reading, marking or about to press.
  const isInUse = (region) => region.contains(document.activeElement) || region.querySelector("details[open]")
    || (!getSelection().isCollapsed && region.contains(getSelection().anchorNode));
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches("[data-poll]") && (document.hidden || isInUse(event.target))) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) for (const region of document.querySelectorAll("[data-poll]")) window.htmx?.trigger(region, "poll");
  });

  // On a narrow screen menus are one line: begin where one is.
  for (const line of document.querySelectorAll(".nav, .tabs")) {
    const here = line.querySelector("[aria-current]");
    if (here) line.scrollLeft = here.offsetLeft - line.offsetLeft - (line.clientWidth - here.offsetWidth) / 2;
    // Chromium leaves a link that has focus half out of sight.
    line.addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) event.target.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  }

  document.addEventListener("htmx:load", (event) => prepare(event.target));
  window.addEventListener("pageshow", forgetSubmits);
  // No browser keeps a page that answers a form: who goes back to one meets an error page of the browser's own. So they
  // come to the form instead. After a mistake only once it is left: until then Reload sends what was typed again.
  const forgetAnswer = (address = "") => history.replaceState(history.state, "", address || location.href);
  window.addEventListener("pagehide", () => { if (document.querySelector(".error-summary")) forgetAnswer(); });
  // <section data-shown-once="address">: Reload makes no second key either; the address is for what only a button leads to.
  const once = document.querySelector("[data-shown-once]");
  if (once) forgetAnswer(once.dataset.shownOnce);
  prepare(document);
})();
