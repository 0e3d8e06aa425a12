"use strict";
// The answers table: filter, search, sort, and rows a hundred at a time. Without this script all rows are there in the page.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const STEP = 100;

  function start() {
    const table = document.getElementById("answers-table");
    if (!table) return;
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const one = (id) => document.getElementById(id);
    const outcome = one("answers-outcome"), segment = one("answers-segment"), text = one("answers-text");
    const more = one("answers-more"), told = one("answers-told");
    let shown = STEP;

    function fits(row) {
      const wanted = text.value.trim().toLowerCase();
      return (!outcome.value || row.dataset.outcome === outcome.value)
        && (!segment || !segment.value || row.dataset.segment === segment.value)
        && (!wanted || row.textContent.toLowerCase().includes(wanted));
    }
    function update() {
      let found = 0;
      for (const row of rows) {
        const fit = fits(row);
        if (fit) found += 1;
        row.hidden = !fit || found > shown;
        row.classList.remove("late");
      }
      told.textContent = `${Math.min(found, shown)} of ${found} queries shown`;
      more.hidden = found <= shown;
    }
    function refilter() { shown = STEP; update(); }
    function sort(button) {
      const heading = button.closest("th");
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = button.dataset.key, sign = down ? -1 : 1;
      const value = (row) => row.dataset[key] ?? "";
      const numeric = button.dataset.numeric !== undefined;
      rows.sort((a, b) => sign * (numeric
        ? (value(a) === "" ? Infinity : Number(value(a))) - (value(b) === "" ? Infinity : Number(value(b))) || 0
        : value(a).localeCompare(value(b))));
      body.append(...rows);
      update();
    }
    outcome.addEventListener("change", refilter);
    if (segment) segment.addEventListener("change", refilter);
    text.addEventListener("input", refilter);
    more.addEventListener("click", () => { shown += STEP; update(); });
    for (const button of table.tHead.querySelectorAll("button")) button.addEventListener("click", () => sort(button));
    update();
  }
  document.addEventListener("DOMContentLoaded", start);
})();
