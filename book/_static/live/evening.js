/* The second panel of the page "Try it": one evening's ratings, and the test item that each rule for ties takes from
   them. The reader changes the order of the file's rows. Node loads the rules alone, as a module. */
"use strict";

(function () {
  /* Orders of the ratings `rows`, which stand as in the file, each { letter, number, time, key }: the last is the test
     item. Ratings with the same `tie` are tied under the rule, and `then` says which of them comes first. */
  const RULES = [
    { tie: (row) => row.time, then: (row, place) => place },
    { tie: (row) => Math.fround(row.time), then: (row, place) => place },
    { tie: (row) => row.time, then: (row) => row.number },
    { tie: (row) => row.time, then: (row, place, keys) => keys[place] },
  ];

  /* The rows in the order of each rule, each with its `tied`: the time that the rule sees. */
  function orders(rows, keys) {
    return RULES.map(({ tie, then }) =>
      rows
        .map((row, place) => ({ ...row, tied: tie(row), then: then(row, place, keys) }))
        .sort((a, b) => a.tied - b.tied || a.then - b.then),
    );
  }

  /* The rows with the one at `from` moved to `to`. */
  function moved(rows, from, to) {
    const others = rows.filter((_, place) => place !== from);
    others.splice(Math.max(0, Math.min(to, others.length)), 0, rows[from]);
    return others;
  }

  if (typeof module !== "undefined") {
    module.exports = { orders, moved };
    return;
  }

  const panel = document.getElementById("evening");
  const { rules, rows: given, keys } = JSON.parse(panel.querySelector("script").textContent);
  const part = (name) => panel.querySelector(`[data-part="${name}"]`);
  let rows = given;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function show() {
    const first = Math.min(...rows.map((row) => row.time));
    part("file").replaceChildren(
      ...rows.map((row, place) => {
        const words = `${row.letter}: ${row.title}`;
        const buttons = [["up", -1, "↑"], ["down", 1, "↓"]].map(([name, by, sign]) => {
          const label = `Move ${row.letter} ${name}, row ${place + 1} of ${rows.length}`;
          const button = element("button", { type: "button", "data-by": by, "aria-label": label }, sign);
          button.disabled = place + by < 0 || place + by >= rows.length;
          button.addEventListener("click", () => move(place, place + by, by));
          return button;
        });
        const seconds = element("small", {}, `film ${row.number}, after ${row.time - first} s`);
        const grip = element("span", { class: "grip", "aria-hidden": "true" }, "⠿");
        const entry = element("li", { "data-letter": row.letter }, grip, element("span", {}, words), seconds, ...buttons);
        entry.addEventListener("pointerdown", (event) => drag(event, place));
        return entry;
      }),
    );
    const found = orders(rows, keys);
    part("orders").replaceChildren(
      ...rules.map((rule, number) => {
        const order = found[number];
        const boxes = order.map((row, place) => {
          const last = place === order.length - 1;
          const tied = place > 0 && order[place - 1].tied === row.tied;
          const classes = [last ? "test" : "", tied ? "tied" : ""].join(" ").trim();
          const hidden = last ? [element("span", { class: "visually-hidden" }, ", the test item")] : [];
          return element("li", classes ? { class: classes } : {}, row.letter, ...hidden);
        });
        const name = element("p", {}, rule);
        return element("div", {}, name, element("ol", { "aria-label": rule }, ...boxes));
      }),
    );
    const last = rules.map((rule, number) => `${rule.split(":")[0]}: ${found[number][rows.length - 1].letter}`);
    part("said").textContent = `Test items. ${last.join("; ")}.`;
  }

  function move(from, to, by) {
    rows = moved(rows, from, to);
    show();
    const buttons = [...part("file").children[to].querySelectorAll("button:not(:disabled)")];
    (buttons.find((button) => Number(button.dataset.by) === by) || buttons[0]).focus();
  }

  /* A row follows the pointer: it takes the place of the row that the pointer is over. */
  function drag(event, from) {
    if (event.target.closest("button") || event.button) return;
    if (event.pointerType === "touch" && !event.target.closest(".grip")) return; // a finger scrolls the page elsewhere
    event.preventDefault();
    let at = from;
    part("file").children[at].classList.add("dragged");
    const follow = ({ clientY }) => {
      const to = [...part("file").children].findIndex((entry) => clientY < entry.getBoundingClientRect().bottom);
      const target = to < 0 ? rows.length - 1 : to;
      if (target === at) return;
      rows = moved(rows, at, target);
      at = target;
      show();
      part("file").children[at].classList.add("dragged");
    };
    const end = () => {
      removeEventListener("pointermove", follow);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      show();
    };
    addEventListener("pointermove", follow);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  part("reset").addEventListener("click", () => {
    rows = given;
    show();
  });
  show();
})();
