"""One papermill run in a process of its own, whose kernel is spoken to through Unix sockets.

    python -m seqrec_lib.study.papermill_job SOURCE COPY FOLDER PARAMETERS

By default Jupyter finds five free TCP ports, lets go of them, and the kernel takes them seconds later. Of two
notebooks that start side by side one may be given a port of the other's; a kernel that finds its port for output
taken does not end but stays alive and silent, and papermill waits for it until its limit ("Kernel didn't respond").
A socket in a folder of its own belongs to nobody else.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

# nbformat's validator compiles a grammar of internationalised web addresses where it finds one, for two seconds at each
# start; no notebook holds such a field.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
START_TIMEOUT = 300  # seconds until a kernel has to answer: a busy machine imports slowly


def run(source: str, copy: str, folder: str, parameters: dict[str, Any]) -> None:
    """Execute the notebook ``source`` in ``folder`` into ``copy``, which is written after each cell.

    Raises:
        PapermillExecutionError: a cell failed; the copy shows where.
    """
    import papermill
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="seqrec-", ignore_cleanup_errors=True) as sockets:
        config = Config()
        if hasattr(socket, "AF_UNIX"):
            config.KernelManager.transport = "ipc"
            config.KernelManager.ip = str(Path(sockets, "k"))  # the prefix of five names; they may have 107 bytes
        papermill.execute_notebook(
            source,
            copy,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            cwd=folder,
            config=config,
        )


def _end_with(parent: int) -> None:
    """End this process once ``parent`` has, however that ended; the kernel watches this process in the same way."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    _, source, copy, folder, parameters = sys.argv
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    run(source, copy, folder, json.loads(parameters))
