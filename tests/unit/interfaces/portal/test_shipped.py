"""An installed Homeport has its templates and its style sheet: they are in the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[4]
PORTAL = ROOT / "homeport" / "interfaces" / "portal"
USE = """
from homeport.interfaces.portal.drawing import SHEET, TEMPLATES
import homeport
assert ".whl" in homeport.__file__, homeport.__file__
assert len(SHEET) > 1000
problem = {"message": "<b>", "code": "C"}
print(TEMPLATES.get_template("problem.html").render(base="", problem=problem, status=404))
"""


def test_pages_are_drawn_from_the_wheel_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as packed:
        names = set(packed.namelist())
    shipped = [path for path in PORTAL.rglob("*") if path.suffix in (".html", ".css")]
    assert len(shipped) == 7
    assert {str(path.relative_to(ROOT)) for path in shipped} <= names
    drawn = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel), "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Not shown: &lt;b&gt;" in drawn.stdout
