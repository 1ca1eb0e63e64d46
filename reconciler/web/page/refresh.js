// Refreshes the page: fetches it and replaces <main>, without losing focus, scroll position, selection or
// unfolded parts. It pauses while the page is hidden, and shows a message when the program does not answer.
"use strict";
(() => {
  const EVERY_MS = 2000, PATIENCE_MS = 4000, LATE_MS = 6000;
  const stale = document.getElementById("stale"), said = document.getElementById("said");
  let heardAt = performance.now(), lookedAt = heardAt, busy = false, failing = false;

  const selecting = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && document.getElementById("main").contains(selection.anchorNode);
  };

  const swap = (fresh) => {
    const old = document.getElementById("main"), main = document.adoptNode(fresh.getElementById("main"));
    const before = document.getElementById("answer").textContent, focused = document.activeElement.id;
    for (const one of old.querySelectorAll("details[open]")) {
      const same = one.id && main.querySelector("#" + CSS.escape(one.id));
      if (same) same.open = true;
    }
    const [x, y] = [scrollX, scrollY];
    old.replaceWith(main);
    scrollTo({ left: x, top: y, behavior: "instant" });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    document.title = fresh.title;
    const answer = document.getElementById("answer").textContent;
    if (answer !== before) said.textContent = answer;
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const reply = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      const fresh = new DOMParser().parseFromString(reply.ok ? await reply.text() : "", "text/html");
      failing = !fresh.getElementById("answer");
      if (!failing && !selecting()) {
        swap(fresh);
        heardAt = performance.now();
      }
    } catch {
      failing = true;
    }
    busy = false;
    tell();
  };

  const tell = () => {
    const late = performance.now() - heardAt;
    const asking = !failing && !selecting() && performance.now() - lookedAt < LATE_MS;
    stale.hidden = document.hidden || late < LATE_MS || asking;
    if (stale.hidden) return;
    const why = failing ? "The program does not answer: do not rely on it." : "It waits while text is selected.";
    stale.textContent = `This page is ${Math.round(late / 1000)} s old. ${why}`;
  };

  setInterval(refresh, EVERY_MS);
  setInterval(tell, 1000);
  document.addEventListener("visibilitychange", () => { lookedAt = performance.now(); refresh(); });
})();
