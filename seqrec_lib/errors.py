"""The one exception for expected failures: wrong input, missing data, a failed check.

Its message is a single line that names the offending value and the remedy; the CLI prints it without a
traceback. Anything else that is raised is a defect of this library.
"""

from __future__ import annotations


class SeqRecError(Exception):
    """An expected failure: ``str(error)`` says what was wrong, with the value, and what to do."""
