"""`make goldens`: compare all goldens, add those that are new, and stamp the code that passed (``code.json``).

Nothing that is kept is overwritten, and no code is stamped that leaves a golden's bands: where results are meant to
change, raise the revision of just those configurations first.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from seqrec_lib.results import code
from tests.golden import harness


def main() -> int:
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        for case in harness.cases():
            now = harness.summary(case, harness.run(case, Path(name) / case.root))
            kept = harness.read(case.experiment).get(case.name, {}).get(str(case.revision))
            label = f"{case.experiment.NAME}, {case.name}, revision {case.revision}"
            if kept is None:
                harness.add(case, now)
                print(f"added: {label}")
            else:
                wrong += [f"{label}: {line}" for line in harness.differences(case, kept, now)]
    for line in wrong:
        print(f"differs: {line}", file=sys.stderr)
    if wrong:
        print("no code was stamped; raise the revision of these configurations if it was meant", file=sys.stderr)
        return 1
    stamp = code.make_stamp(harness.deciding_modules())
    code.STAMP.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"all goldens hold; {code.STAMP.name} has {len(stamp)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
