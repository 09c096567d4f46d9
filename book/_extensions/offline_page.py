"""A Sphinx extension that keeps the built pages free of what they do not need and cannot have offline.

Jupyter Book adds thebe (which runs code on a public server) to every page although it is switched off, and loads
every script below ``_static`` on every page, so that the vendored MathJax would run twice where there are formulae and
once where there are none. Sphinx itself adds MathJax to the pages that need it, and the page *Try it* names its
scripts. The toggles of the side bar get names. A page that does not describe itself gets the metadata that a link to
it is shown with. The search page gets the text of all pages, so that its results show
where a page says what was asked.
"""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path
from textwrap import shorten
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

OF_SOME_PAGES = ("mathjax/", "live/", "search/")  # folders of _static
UNREAD = re.compile(r"<(table|pre|script|style|svg|nav)\b.*?</\1>|<a class=\"headerlink\".*?</a>", re.S)
EVIDENCE = re.compile(r'<a class="evidence".*?</a>', re.S)
TEXTS: dict[str, str] = {}  # page -> what stands on it, for the search


def drop_vendored_scripts(app: Sphinx, config: Any) -> None:
    """Takes scripts of some pages from those of every page."""
    config.html_js_files = [
        entry for entry in config.html_js_files if not any(folder in str(entry) for folder in OF_SOME_PAGES)
    ]


def drop_thebe(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Removes thebe's scripts, one of which names its address on a CDN, and its style sheet."""

    def is_thebe(script: Any) -> bool:
        body = getattr(script, "attributes", {}).get("body") or ""
        return "thebe" in str(getattr(script, "filename", "") or "").lower() or "thebe" in body.lower()

    context["script_files"] = [script for script in context.get("script_files", []) if not is_thebe(script)]
    context["css_files"] = [style for style in context.get("css_files", []) if not is_thebe(style)]


def mend_reference_list(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Takes a role from the list of references whose children do not have the role that it asks for."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def name_the_toggles(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Gives each toggle of the side bar the name of the chapter that it unfolds: a blind reader hears it."""
    generate = context.get("generate_toctree_html")
    if generate is None:
        return

    def generate_named(*args: Any, **options: Any) -> Any:
        tree = generate(*args, **options)
        for toggle in tree.select("summary") if hasattr(tree, "select") else ():
            toggle["aria-label"] = f"Pages of {toggle.find_parent('li').find('a').get_text(strip=True)}"
        return tree

    context["generate_toctree_html"] = generate_named


def describe(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Adds title and description to the head of a page, unless the page has its own: its heading, and the beginning of
    its first paragraph."""
    if doctree is None:
        return
    paragraph = re.search(r"<p>(.*?)</p>", context["body"], re.S)
    texts = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": _plain(context["title"])}
    if paragraph:
        texts["og:description"] = shorten(_plain(paragraph[1]), 200, placeholder=" …")
    tags = context.get("metatags", "")
    tags += "".join(
        f'<meta property="{name}" content="{escape(text)}" />\n'
        for name, text in texts.items()
        if f'"{name}"' not in tags
    )
    if paragraph and 'name="description"' not in tags:
        tags += f'<meta name="description" content="{escape(texts["og:description"])}" />\n'
    context["metatags"] = tags


def _plain(html: str) -> str:
    """The words of a piece of HTML, without links to evidence."""
    words = " ".join(unescape(re.sub(r"<[^>]*>", "", EVIDENCE.sub("", html))).split())
    return re.sub(r"\s+(?=[.,;:!?)])", "", words)


def drop_thebe_settings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Removes the block of thebe's settings (a public server's repository) from the page's text."""
    for node in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in node.astext():
            node.parent.remove(node)


def keep_text(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Collects a page's text without its tables and code; the search page loads all of them, and what shows them."""
    if pagename == "search":
        for name in ("texts.js", "search.js"):
            app.add_js_file(f"search/{name}", loading_method="defer")
    elif doctree is not None:
        plain = unescape(re.sub(r"<[^>]*>", " ", UNREAD.sub(" ", context["body"])))
        TEXTS[pagename] = re.sub(r"\s+(?=[.,;:!?)])", "", " ".join(plain.split()))


def write_texts(app: Sphinx, exception: Exception | None) -> None:
    """Writes the pages' texts as a script: browsers refuse to fetch a page from the disk."""
    if exception is None and app.builder.name == "html":
        folder = Path(app.outdir) / "_static" / "search"
        folder.mkdir(parents=True, exist_ok=True)
        content = f"globalThis.SearchTexts = {json.dumps(TEXTS, ensure_ascii=False)};\n"
        (folder / "texts.js").write_text(content, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", drop_vendored_scripts)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", mend_reference_list, priority=900)
    app.connect("html-page-context", name_the_toggles, priority=900)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", keep_text)  # before the scripts are looked through
    app.connect("doctree-resolved", drop_thebe_settings, priority=900)
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
