"""Policies: what may stand together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from homeport.errors import RefusedError
from homeport.model.ids import InvalidNameError
from homeport.model.policy import InvalidPolicyError, ReplicationPolicy

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="the defaults"),
        pytest.param({"interval": MINUTE, "rpo_target": MINUTE}, id="as often as the target"),
        pytest.param({"retention": HOUR, "keep_all": HOUR}, id="nothing but all of it"),
        pytest.param({"app_consistent_interval": MINUTE, "interval": MINUTE}, id="always frozen"),
    ],
)
def test_a_policy_that_holds(values: dict[str, Any]) -> None:
    assert ReplicationPolicy(name="gold", **values).name == "gold"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"interval": timedelta(0)}, "above 0", id="no interval"),
        pytest.param({"interval": -MINUTE}, "above 0", id="a negative interval"),
        pytest.param({"interval": HOUR}, "RPO target", id="less often than the target"),
        pytest.param({"retention": MINUTE, "keep_all": HOUR}, "retention", id="too short to keep"),
        pytest.param(
            {"app_consistent_interval": timedelta(seconds=1)},
            "app-consistent",
            id="frozen more often than captured",
        ),
    ],
)
def test_values_that_contradict_each_other(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPolicyError, match=message) as refused:
        ReplicationPolicy(name="gold", **values)
    assert refused.value.remedy
    assert isinstance(refused.value, RefusedError)


def test_a_policy_has_a_name() -> None:
    with pytest.raises(InvalidNameError):
        ReplicationPolicy(name="../gold")
