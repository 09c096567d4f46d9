"""The one exception for expected failures: wrong input, missing data, a failed check.

Its message is a single line that names the offending value and the remedy; the CLI prints it without a
traceback. Anything else that is raised is a defect of this library.
"""

from __future__ import annotations

from seqrec_lib.terminal import one_line


class SeqRecError(Exception):
    """An expected failure: ``str(error)`` says what was wrong, with the value, and what to do.

    The text is one line that is safe to print, whatever file, record or answer of a server it quotes.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())
