"""Our note in a domain's metadata, and the hook that obeys it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.model.host import Note
from homeport.providers.compute import domain_xml, hook
from homeport.providers.compute.notes import read_note, write_note
from tests.machines import machine_xml

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"))
WORDS = TEXT.map(lambda text: " ".join(text.split()))
NOTES = st.builds(
    Note,
    item=WORDS,
    epoch=st.integers(0, 10**6),
    role=st.sampled_from(["source", "target", "fenced", "test"]),
    may_start=st.booleans(),
    reason=WORDS,
    lock=st.none() | WORDS,
    confirm=st.booleans(),
)
FENCED = Note(item="i", epoch=2, role="fenced", may_start=False, reason="it runs in west")


def noted(note: Note | None, xml: str = "") -> str:
    root = domain_xml.parse(xml or machine_xml())
    write_note(root, note)
    return domain_xml.print_xml(root)


def run_hook(
    xml: str, operation: str = "prepare", *, confirmed: Path | None = None
) -> subprocess.CompletedProcess[str]:
    script = hook.SCRIPT.replace(str(hook.CONFIRMED), str(confirmed or hook.CONFIRMED))
    return subprocess.run(
        ["sh", "-c", script, "hook", "web", operation, "begin", "-"],
        input=xml,
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )


class TestNote:
    @given(NOTES)
    def test_what_is_written_is_read(self, note: Note) -> None:
        assert read_note(domain_xml.parse(noted(note))) == note

    def test_a_second_one_replaces_the_first(self) -> None:
        other = Note(item="i", epoch=3, role="source", may_start=True)
        text = noted(other, noted(FENCED))
        assert text.count("homeport.dev") == 1
        assert read_note(domain_xml.parse(text)) == other

    def test_taken_away_the_definition_is_as_before(self) -> None:
        before = domain_xml.print_xml(domain_xml.parse(machine_xml()))
        assert noted(None, noted(FENCED)) == before

    def test_others_metadata_stays(self) -> None:
        theirs = "<metadata><a:b xmlns:a='urn:theirs'>x</a:b></metadata>"
        text = noted(None, noted(FENCED, machine_xml(extra=theirs)))
        assert "urn:theirs" in text
        assert "homeport" not in text

    def test_line_breaks_in_a_reason_become_spaces(self) -> None:
        note = Note(item="i", epoch=1, role="test", may_start=True, reason="a\n  b")
        found = read_note(domain_xml.parse(noted(note)))
        assert found is not None
        assert found.reason == "a b"


class TestScript:
    def test_a_note_that_forbids_denies_with_reason_and_remedy(self) -> None:
        done = run_hook(noted(FENCED))
        assert done.returncode == 1
        assert done.stderr.splitlines()[0] == "Homeport denies the start of web: it runs in west"
        assert "fail over in Homeport" in done.stderr

    @settings(max_examples=25, deadline=None)
    @given(NOTES)
    def test_it_obeys_every_note_and_quotes_its_reason(self, note: Note) -> None:
        done = run_hook(noted(replace(note, confirm=False)))
        assert done.returncode == (0 if note.may_start else 1)
        if not note.may_start and note.reason:
            assert done.stderr.splitlines()[0].endswith(note.reason)

    def test_one_that_waits_for_its_epoch_starts_when_the_mark_is_there(
        self, tmp_path: Path
    ) -> None:
        marks = tmp_path / "marks"
        note = Note(item="7f" * 16, epoch=2, role="source", may_start=True, confirm=True)
        done = run_hook(noted(note), confirmed=marks)
        assert done.returncode == 1
        assert "has not heard from the server" in done.stderr
        assert f"touch {marks}/{note.item}" in done.stderr
        marks.mkdir()
        (marks / ("7e" * 16)).touch()
        assert run_hook(noted(note), confirmed=marks).returncode == 1
        (marks / note.item).touch()
        assert run_hook(noted(note), confirmed=marks).returncode == 0
        fenced = replace(note, may_start=False)
        assert run_hook(noted(fenced), confirmed=marks).returncode == 1

    def test_a_reason_that_quotes_it_asks_for_no_mark(self, tmp_path: Path) -> None:
        note = Note(item="i", epoch=1, role="test", may_start=True, reason='x confirm="yes"')
        assert run_hook(noted(note), confirmed=tmp_path).returncode == 0

    @pytest.mark.parametrize("operation", ["start", "started", "stopped", "release", "migrate"])
    def test_only_the_start_is_denied(self, operation: str) -> None:
        assert run_hook(noted(FENCED), operation).returncode == 0

    @pytest.mark.parametrize(
        "xml",
        [
            pytest.param(machine_xml(), id="no note"),
            pytest.param("", id="nothing on stdin"),
            pytest.param(
                machine_xml(extra='<metadata><note may-start="no"/></metadata>'), id="not ours"
            ),
            pytest.param(
                machine_xml(
                    extra="<description>&lt;homeport:note xmlns:homeport="
                    '"https://homeport.dev/ns/1" may-start="no"&gt;</description>'
                ),
                id="a description that quotes one",
            ),
            pytest.param(
                noted(Note(item="i", epoch=1, role="a", may_start=True, reason='x may-start="no"')),
                id="a reason that quotes it",
            ),
        ],
    )
    def test_everything_else_may_start(self, xml: str) -> None:
        assert run_hook(xml).returncode == 0


class TestInstall:
    def test_it_stands_beside_others_and_can_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "qemu.d").mkdir()
        (tmp_path / "qemu.d/10-own").write_text("own")
        place = hook.install(tmp_path, folders=True)
        assert place == tmp_path / "qemu.d" / hook.NAME
        assert os.access(place, os.X_OK)
        assert sorted(path.name for path in (tmp_path / "qemu.d").iterdir()) == [
            "10-own",
            hook.NAME,
        ]
        assert [path.name for path in tmp_path.iterdir()] == ["qemu.d"]

    def test_the_same_again_changes_nothing(self, tmp_path: Path) -> None:
        place = hook.install(tmp_path, folders=True)
        assert place is not None
        before = place.stat().st_ino
        assert hook.install(tmp_path, folders=True) == place
        assert place.stat().st_ino == before

    @pytest.mark.parametrize("folders", [True, False])
    def test_an_older_one_of_ours_is_replaced(self, tmp_path: Path, folders: bool) -> None:
        place = hook.install(tmp_path, folders=folders)
        assert place is not None
        place.write_text("#!/bin/sh\n# Made by Homeport.\n")
        place.chmod(0o644)
        assert hook.install(tmp_path, folders=folders) == place
        assert place.read_text() == hook.SCRIPT
        assert os.access(place, os.X_OK)

    def test_a_hosts_own_single_script_is_left(self, tmp_path: Path) -> None:
        (tmp_path / "qemu").write_text("#!/bin/sh\nexit 0\n")
        assert hook.install(tmp_path, folders=False) is None
        assert (tmp_path / "qemu").read_text() == "#!/bin/sh\nexit 0\n"

    def test_the_probe_is_denied_by_it(self) -> None:
        done = run_hook(hook.probe_xml())
        assert done.returncode == 1
        assert "this was a probe" in done.stderr
