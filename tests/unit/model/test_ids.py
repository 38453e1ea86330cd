"""Names: what may become a file, a key and a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.ids import InvalidNameError, check_name


@pytest.mark.parametrize(
    "name", ["a", "7", "web-1", "web_1.data", "A+b", "x" * 63, "a-", "a_", "web.01"]
)
def test_a_name(name: str) -> None:
    assert check_name("machine", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-a",
        "_a",
        ".a",
        "a.",
        "a/b",
        "/a",
        "a..b",
        "a b",
        "a\n",
        "a\0",
        "é",
        "x" * 64,
    ],
)
def test_no_name(name: str) -> None:
    with pytest.raises(InvalidNameError) as refused:
        check_name("machine", name)
    assert (refused.value.kind, refused.value.name) == ("machine", name)
    assert refused.value.remedy


@given(st.text(max_size=70))
def test_what_passes_is_one_plain_step_of_a_path(name: str) -> None:
    try:
        check_name("disk", name)
    except InvalidNameError:
        return
    assert name.isascii()
    assert name not in (".", "..")
    assert not set(name) & set("/\\%?#& \t\r\n\0")
