/* The first panel of the page "Try it": pick titles, two models answer, time and size are charted. The models are in
   recurrent.js, their weights in the scripts that models.js lists (seqrec_lib/study/live_model.py writes both). */
"use strict";

(function () {
  const SHOWN = 10;
  const LEAST_MS = 4; // a step is repeated until that long has passed, as a browser's clock is coarse
  const TRIES = 5; // of which the fastest counts, as other work disturbs the slower ones
  const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];
  const panel = document.getElementById("live-models");
  const part = (name) => panel.querySelector(`[data-part="${name}"]`);
  const files = globalThis.SeqRecModels || [];
  if (!files.length) {
    part("missing").hidden = false;
    return;
  }

  let titles = [];
  let models = []; // { title, model, state, clicks: [{ length, milliseconds }], measured: the same }
  let history = [];

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function load(file) {
    part("status").textContent = "Loading the models.";
    const script = element("script", { src: `${part("scripts").dataset.folder}${file}` });
    script.onload = () => start(globalThis.SeqRecData);
    document.head.append(script);
  }

  function start(data) {
    titles = data.titles;
    models = data.models.map((content) => {
      const model = SeqRec.build(content);
      return { title: content.title, model, state: model.start(), clicks: [], measured: [] };
    });
    history = [];
    const sorted = titles.map((title, item) => item).slice(1);
    sorted.sort((a, b) => titles[a].localeCompare(titles[b]));
    part("titles").replaceChildren(...sorted.map((item) => element("option", { value: titles[item] })));
    part("controls").hidden = false;
    show();
  }

  /* Milliseconds that `work` takes: the fastest try, each over as many repetitions as the clock needs. */
  function timed(work) {
    let fastest = Infinity;
    for (let tried = 0; tried < TRIES; tried++) {
      const begin = performance.now();
      let times = 0;
      do {
        work();
        times++;
      } while (performance.now() - begin < LEAST_MS);
      fastest = Math.min(fastest, (performance.now() - begin) / times);
    }
    return fastest;
  }

  /* One more title: each model goes on from its state, or, past its window, reads its latest titles anew. */
  function add(item) {
    const before = history;
    history = [...history, item];
    for (const entry of models) {
      const { model, state } = entry;
      const full = before.length >= model.settings.window;
      const next = () => (full ? model.read(history) : model.step(state, item));
      const milliseconds = timed(() => model.scores(next(), history, true));
      entry.state = next();
      const others = entry.clicks.filter((click) => click.length !== history.length);
      entry.clicks = [...others, { length: history.length, milliseconds }];
    }
    show();
  }

  function restart(items) {
    history = items;
    for (const entry of models) entry.state = entry.model.read(history);
    show();
  }

  function typed() {
    const field = part("title");
    const words = field.value.trim().toLowerCase();
    const same = titles.findIndex((title, item) => item && title.toLowerCase() === words);
    const holding = titles.map((title, item) => item).filter((i) => i && titles[i].toLowerCase().includes(words));
    const item = same > 0 ? same : holding.length === 1 ? holding[0] : 0;
    const unclear = holding.length ? "Several titles fit. Type more." : "No title fits.";
    part("problem").textContent = item ? "" : words ? unclear : "Type a title first.";
    field.setAttribute("aria-invalid", String(!item));
    if (!item) return;
    field.value = "";
    add(item);
  }

  /* A list is made anew with each change, so that the focus goes to what stands where the pressed button stood. */
  function show() {
    part("history").replaceChildren(
      ...history.map((item, place) => {
        const label = `Remove ${titles[item]}, title ${place + 1} of the history`;
        const button = element("button", { type: "button", class: "live-remove", "aria-label": label }, "Remove");
        button.addEventListener("click", () => {
          restart(history.filter((_, other) => other !== place));
          (part("history").querySelectorAll("button")[Math.min(place, history.length - 1)] || part("title")).focus();
        });
        return element("li", {}, element("span", {}, titles[item]), " ", button);
      }),
    );
    part("empty").hidden = history.length > 0;
    part("clear").disabled = !history.length;
    const said = [];
    const biased = part("bias").checked;
    part("answers").replaceChildren(
      ...models.map(({ title, model, state }, column) => {
        const list = element("ol", { "aria-label": `Next ten by ${title}` });
        if (history.length) {
          const scores = model.scores(state, history, biased);
          const next = SeqRec.best(scores, SHOWN, history, true);
          said.push(`${title}: ${titles[next[0]]}`);
          list.append(...next.map((item, place) => answer(item, scores[item], column, place)));
        }
        return element("div", {}, element("h3", {}, title), list);
      }),
    );
    part("answers").hidden = !history.length;
    part("status").textContent = history.length
      ? `${history.length} in the history. First of the next ten: ${said.join("; ")}.`
      : "Ready.";
    measures();
    charts();
  }

  function answer(item, score, column, place) {
    const repeated = history.includes(item);
    const label = `Add ${titles[item]}${repeated ? ", already in the history" : ""}`;
    const shown = [titles[item], " ", element("small", {}, score.toFixed(2))];
    const button = element("button", { type: "button", class: "live-next", "aria-label": label }, ...shown);
    button.addEventListener("click", () => {
      add(item);
      const lists = part("answers").querySelectorAll("ol");
      lists[column].querySelectorAll("button")[place].focus();
    });
    const marked = repeated ? [" ", element("em", {}, "seen")] : [];
    return element("li", {}, button, ...marked);
  }

  const kibibytes = (bytes) => (bytes / 1024).toFixed(1);

  function measures() {
    part("measures").replaceChildren(
      ...models.map(({ title, model, clicks }) => {
        const last = clicks.find((click) => click.length === history.length);
        const read = Math.min(history.length, model.settings.window);
        const size = kibibytes(model.stateBytes(read));
        const cells = [last ? last.milliseconds.toFixed(3) : "–", size, String(model.settings.window)];
        const head = element("th", { scope: "row" }, title);
        return element("tr", {}, head, ...cells.map((cell) => element("td", { class: "number" }, cell)));
      }),
    );
  }

  /* Both models on a made-up history of up to 2,000 titles: the time of a step and of the scores at some lengths. */
  async function measure() {
    const button = part("measure");
    button.disabled = true;
    part("status").textContent = "Measuring.";
    const longest = LENGTHS[LENGTHS.length - 1];
    const made = Array.from({ length: longest }, (_, i) => 1 + ((i * 37) % (titles.length - 1)));
    for (const entry of models) {
      entry.measured = [];
      let state = entry.model.start();
      for (const item of made) {
        if (LENGTHS.includes(state.length + 1)) {
          const before = state;
          const milliseconds = timed(() => entry.model.scores(entry.model.step(before, item), [], false));
          entry.measured.push({ length: state.length + 1, milliseconds });
          await new Promise((resolve) => setTimeout(resolve));
        }
        state = entry.model.step(state, item);
      }
      charts();
    }
    button.disabled = false;
    part("status").textContent = "Measured up to 2,000 titles. The charts show it.";
  }

  const COLOURS = ["var(--chart-1)", "var(--chart-2)"];

  function charts() {
    const sizes = models.map(({ title, model }) => ({
      title,
      line: LENGTHS.map((length) => [length, model.stateBytes(length) / 1024]),
      points: history.length ? [[history.length, model.stateBytes(history.length) / 1024]] : [],
    }));
    const times = models.map(({ title, clicks, measured }) => ({
      title,
      line: measured.map(({ length, milliseconds }) => [length, milliseconds]),
      points: clicks.map(({ length, milliseconds }) => [length, milliseconds]),
    }));
    part("time-chart").replaceChildren(chart(times, "Milliseconds a click", part("time-chart").dataset.alt));
    part("size-chart").replaceChildren(chart(sizes, "KiB kept", part("size-chart").dataset.alt));
  }

  /* Lines and points on log axes, each line with its name at its end, in colours of the page's theme. */
  function chart(series, unit, alt) {
    const [width, height, left, right, top, bottom] = [340, 230, 46, 92, 30, 42];
    const values = series.flatMap(({ line, points }) => [...line, ...points]).map(([, value]) => value);
    const low = Math.min(...(values.length ? values : [0.01]));
    const high = Math.max(...(values.length ? values : [1]), low * 10);
    const place = (value, from, to, a, b) => a + (Math.log(value / from) / Math.log(to / from)) * (b - a);
    const x = (value) => place(value, 1, LENGTHS[LENGTHS.length - 1], left, width - right);
    const y = (value) => place(value, low, high, height - bottom, top);
    const parts = [];
    const text = (words, at, down, anchor, fill) =>
      parts.push(svg("text", { x: at, y: down, "text-anchor": anchor, style: `fill:${fill}` }, words));
    for (const tick of [1, 10, 100, 1000])
      text(tick.toLocaleString("en"), x(tick), height - bottom + 16, "middle", MUTED);
    for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) {
      const at = y(10 ** power);
      parts.push(svg("line", { x1: left, x2: width - right, y1: at, y2: at, style: "stroke:var(--chart-grid)" }));
      const label = power < 0 ? (10 ** power).toFixed(-power) : (10 ** power).toLocaleString("en");
      text(label, left - 6, at + 4, "end", MUTED);
    }
    text("Titles in the history", (left + width - right) / 2, height - 6, "middle", MUTED);
    text(unit, 0, 14, "start", MUTED);
    const ends = [];
    series.forEach(({ title, line, points }, number) => {
      const colour = COLOURS[number];
      const path = line.map(([length, value]) => `${x(length).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      parts.push(svg("polyline", { points: path, "stroke-width": 2, style: `fill:none;stroke:${colour}` }));
      for (const [length, value] of points)
        parts.push(svg("circle", { cx: x(Math.min(length, 2000)), cy: y(value), r: 4, style: `fill:${colour}` }));
      const end = line.length ? line[line.length - 1][1] : points.length ? points[points.length - 1][1] : null;
      if (end !== null) ends.push({ title, colour, at: y(end) + 4 });
    });
    ends.sort((a, b) => a.at - b.at);
    ends.forEach((end, i) => {
      if (i) end.at = Math.max(end.at, ends[i - 1].at + 17);
    });
    const over = Math.max(0, ...ends.map((end) => end.at - (height - bottom)));
    for (const { title, colour, at } of ends) text(title, width - right + 8, at - over, "start", colour);
    const frame = { viewBox: `0 0 ${width} ${height}`, width, height, "font-size": 12.4 };
    return svg("svg", { ...frame, role: "img", "aria-label": alt }, ...parts);
  }

  const MUTED = "var(--chart-muted)";

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  for (const { dataset, title, file } of files)
    part("dataset").append(element("option", { value: file, "data-name": dataset }, title));
  part("dataset").parentElement.hidden = files.length < 2;
  part("dataset").addEventListener("change", (event) => load(event.target.value));
  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    typed();
  });
  part("bias").addEventListener("change", show);
  part("clear").addEventListener("click", () => {
    restart([]);
    part("title").focus();
  });
  part("measure").addEventListener("click", measure);
  load(files[0].file);
})();
