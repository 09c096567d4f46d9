"""Without `seqrec_lib.fast` the library still trains, ranks, serves and decodes: the goldens hold, only slower."""

from __future__ import annotations

import subprocess
import sys

from seqrec_lib.results.provenance import ROOT

PROGRAM = """
import sys, tempfile, warnings
from pathlib import Path


class NoFast:
    def find_spec(self, name, path=None, target=None):
        if name == "seqrec_lib.fast" or name.startswith("seqrec_lib.fast."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoFast())
warnings.filterwarnings("ignore", "slow state-space mixers")

import numpy as np
import torch
from seqrec_lib.models import MODELS, build
from seqrec_lib.serving import serve
from seqrec_lib.train import loop
from tests.golden import harness

loop.matmul_rate = lambda device, dtype=None: 1e11  # a measurement that the numbers do not need
wanted = ("sasrec: ", "mamba4rec-layers", "2mamba4rec-long", "hydra4rec-long", "residual-and-repeats", "queries")
with tempfile.TemporaryDirectory() as folder:
    for case in [*harness.cases("accuracy"), *harness.cases("generative")]:
        if case.name.startswith(wanted):
            now = harness.summary(case, harness.run(case, Path(folder)))
            kept = harness.read(case.experiment)[case.name][str(case.revision)]
            print(case.name, harness.differences(case, kept, now))
for name in ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec", "2mamba4rec+repeats"):
    torch.manual_seed(0)
    model = build(name, 30, 10, MODELS[name].architecture).eval()
    ids, scores = serve(model).recommend([[1, 2, 3], [4]], k=5)
    with torch.inference_mode():
        expected = model.score(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])).numpy()
    for row, (best, values) in enumerate(zip(ids, scores)):
        assert np.allclose(values, expected[row, best], atol=1e-5), name
assert not any(name.startswith("seqrec_lib.fast") for name in sys.modules)
"""


def test_goldens_hold_and_models_are_served_without_the_folder() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 9
    assert all(line.endswith(" []") for line in lines), done.stdout
