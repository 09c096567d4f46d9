// Tables with a data-filters attribute: a choice above for each column that it names, and columns to sort by.
"use strict";

(() => {
  const text = (row, i) => row.cells[i].textContent.trim();
  const number = (words) => {
    const match = words.replace(/,/g, "").match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?[kMB]?/);
    return match ? parseFloat(match[0]) * ({ k: 1e3, M: 1e6, B: 1e9 }[match[0].slice(-1)] || 1) : NaN;
  };
  const compare = (a, b, sign) => {
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what is no number stands last
    return sign * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
  };

  function enhance(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const bar = document.createElement("div");
    bar.className = "table-filters";
    const status = document.createElement("span");
    status.setAttribute("role", "status");

    const choices = table.dataset.filters.split(" ").map(Number).map((i) => {
      const label = document.createElement("label");
      const select = document.createElement("select");
      label.append(`${heads[i].textContent} `, select);
      const values = [...new Set(rows.map((row) => text(row, i)))];
      select.append(new Option("all", ""), ...values.map((value) => new Option(value)));
      select.addEventListener("change", show);
      bar.append(label);
      return [i, select];
    });

    function show() {
      let shown = 0;
      for (const row of rows) {
        row.hidden = choices.some(([i, select]) => select.value && text(row, i) !== select.value);
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = `${shown} of ${rows.length} rows`;
    }

    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const sorted = [...rows].sort((a, b) => compare(text(a, i), text(b, i), falling ? -1 : 1));
        body.append(...sorted);
      });
    });

    bar.append(status);
    table.closest(".table-scroll").before(bar);
    show();
  }

  document.querySelectorAll("table[data-filters]").forEach(enhance);
})();
