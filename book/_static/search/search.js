/* What the book's search adds to Sphinx's: a word is found in British and American spelling alike, and each result shows
   where its page says it. The text of the pages is in texts.js, which the build writes: pages are not fetched, as
   browsers refuse that on file://. */
"use strict";

(function () {
  const BEFORE = 60; // characters of a snippet before what was found, and in all
  const LENGTH = 220;

  /* [British, American] endings and parts of words; each is tried in both directions. */
  const SPELLINGS = [
    [/is(e|es|ed|er|ers|ing|ation|ations)$/, /iz(e|es|ed|er|ers|ing|ation|ations)$/, "is$1", "iz$1"],
    [/ys(e|es|ed|er|ers|ing)$/, /yz(e|es|ed|er|ers|ing)$/, "ys$1", "yz$1"],
    [/our(s|ed|ing|ite|ites|able|al|s?)$/, /or(s|ed|ing|ite|ites|able|al|s?)$/, "our$1", "or$1"],
    [/ll(ed|ing|er|ers)$/, /l(ed|ing|er|ers)$/, "ll$1", "l$1"],
    [/([bt])re(s?)$/, /([bt])er(s?)$/, "$1re$2", "$1er$2"],
    [/ence(s?)$/, /ense(s?)$/, "ence$1", "ense$1"],
    [/ogue(s?)$/, /og(s?)$/, "ogue$1", "og$1"],
    [/ractis(e|es|ed|ing)$/, /ractic(e|es|ed|ing)$/, "ractis$1", "ractic$1"],
    [/gramme(s?)$/, /gram(s?)$/, "gramme$1", "gram$1"],
    [/grey/, /gray/, "grey", "gray"],
    [/dgement(s?)$/, /dgment(s?)$/, "dgement$1", "dgment$1"],
    [/artefact/, /artifact/, "artefact", "artifact"],
  ];

  /* The word, and how else it may be spelt. */
  function spellings(word) {
    const found = new Set([word]);
    for (const [british, american, asBritish, asAmerican] of SPELLINGS) {
      if (british.test(word)) found.add(word.replace(british, asAmerican));
      if (american.test(word)) found.add(word.replace(american, asBritish));
    }
    return [...found];
  }

  /* All ways to take one of each list: [[a, b], [c]] -> [[a, c], [b, c]]. */
  const combinations = (lists) =>
    lists.reduce((all, list) => all.flatMap((taken) => list.map((one) => [...taken, one])), [[]]);

  /* A piece of a text around the first of the words, the words in <mark>; null where there is none. */
  function snippet(text, words) {
    const escaped = words.map((word) => word.replace(/[^\p{L}\p{N}_]/gu, "\\$&"));
    const pattern = new RegExp(`(${escaped.sort((a, b) => b.length - a.length).join("|")})`, "giu");
    const first = text.search(pattern);
    if (first < 0) return null;
    const start = first <= BEFORE ? 0 : text.indexOf(" ", first - BEFORE) + 1;
    const stop = start + LENGTH >= text.length ? text.length : text.lastIndexOf(" ", start + LENGTH);
    const parts = text.slice(Math.min(start, first), stop).split(pattern);
    return { parts, cut: [start > 0, stop < text.length] };
  }

  if (typeof module !== "undefined") {
    module.exports = { spellings, combinations, snippet };
    return;
  }

  const stems = new Map(); // a stem of the question -> the stems of its spellings
  const words = new Set();
  const parse = Search._parseQuery;
  Search._parseQuery = (query) => {
    const stemmer = new Stemmer();
    for (const word of splitQuery(query.toLowerCase())) {
      stems.set(stemmer.stemWord(word), [...new Set(spellings(word).map((other) => stemmer.stemWord(other)))]);
      spellings(word).forEach((other) => words.add(other).add(stemmer.stemWord(other)));
    }
    return parse(query);
  };

  const search = Search.performTermsSearch;
  Search.performTermsSearch = (terms, excluded) => {
    const results = new Map();
    for (const chosen of combinations([...terms].map((term) => stems.get(term) || [term])).slice(0, 32))
      for (const result of search(new Set(chosen), excluded)) {
        const key = `${result[0]}${result[2]}`;
        if (!results.has(key) || results.get(key)[4] < result[4]) results.set(key, result);
      }
    return [...results.values()];
  };

  /* Sphinx adds one entry after another; each gets its snippet. */
  function explain(entry) {
    const link = entry.querySelector("a");
    const page = link.getAttribute("href").replace(/\.html.*$/, "");
    const found = snippet(SearchTexts[page] || "", [...words].filter((word) => word.length > 2));
    if (!found) return;
    const context = document.createElement("p");
    context.className = "context";
    const parts = found.parts.map((part, i) => {
      if (i % 2 === 0) return part;
      const mark = document.createElement("mark");
      mark.textContent = part;
      return mark;
    });
    context.append(...(found.cut[0] ? ["… "] : []), ...parts, ...(found.cut[1] ? [" …"] : []));
    entry.append(context);
  }

  const watch = (changes) =>
    changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => node.matches?.("ul.search > li") && explain(node)));
  const results = document.getElementById("search-results");
  new MutationObserver(watch).observe(results, { childList: true, subtree: true });
})();
