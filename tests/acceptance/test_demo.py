"""The demo as a stranger runs it: the installed program, a real guest, every claim proved."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.timeout(420)]


def test_the_demo_proves_every_claim() -> None:
    assert os.geteuid() == 0, "the lab needs root; CI runs as root"
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["proved"] is True
    assert len(told["proofs"]) >= 14
    assert [proof["claim"] for proof in told["proofs"] if not proof["held"]] == []
    resyncs = [step["way"] for step in told["steps"] if step["way"] == "exact"]
    assert len(resyncs) == 2
