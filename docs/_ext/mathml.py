"""Equations as MathML, which browsers draw by themselves: no script, no font, no LaTeX."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
SCRIPT = {"L": "\u2112", "N": "\U0001d4a9"}
"""Letters for \\mathcal: browsers do not draw the attribute that says so."""


def _mathml(node: nodes.Element, display: str) -> str:
    source = node.astext()
    try:
        found = convert(source, display=display)
    except Exception as error:  # of many kinds
        LOGGER.warning("equation %r: %s: %s", source, type(error).__name__, error, location=node)
        return f"<code>{source}</code>"
    return re.sub(r'<mi mathvariant="script">(\w)</mi>', lambda letter: f"<mi>{SCRIPT[letter[1]]}</mi>", found)


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _display(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="equation">{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
