"""Text that this library did not write, made safe to print: records, titles, names of files, messages of errors.

A terminal obeys control characters: an imported record could clear the screen, set its title or write over a line
that stands already. Characters that turn the direction of writing make a text look like another one. Both are spelled
out (``\\x1b``), and letters, marks, signs and emoji of all scripts stay as they are, with the joiners that they need.
"""

from __future__ import annotations

import re

# C0 and C1 controls with DEL, line and paragraph separators, the characters of Unicode's property Bidi_Control and the
# deprecated ones beside them, halves of characters, the byte-order mark and its mirror image.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\ufffe]"
)  # fmt: skip


def escape(text: str) -> str:
    r"""``text`` with control characters, line ends and turns of direction spelled out. Escaping twice changes nothing.

    >>> print(escape("red \x1b[31m, first\nsecond"))
    red \x1b[31m, first\nsecond
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """``text`` in one line: its lines joined by blanks, the rest as `escape` has it."""
    return escape(" ".join(filter(None, map(str.strip, text.splitlines()))))
