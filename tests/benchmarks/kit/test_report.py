from __future__ import annotations

import json

import pytest

from benchmarks.kit.report import Bar, conclude


@pytest.mark.parametrize(("value", "most", "met"), [(0.9, False, False), (0.95, False, True), (0.95, True, True)])
def test_a_bar_is_met_on_its_own_side_the_bar_included(value: float, most: bool, met: bool):
    assert Bar("x", value, 0.95, most).met is met


def test_more_than_the_most_is_a_miss():
    assert not Bar("x", 3.1, 3.0, most=True).met


def test_the_last_line_is_json_with_bars_and_machine(capsys: pytest.CaptureFixture[str]):
    conclude("x", [Bar("speed", 0.5, 0.95), Bar("memory", 2.0, 3.0, most=True)], {"rounds": 3})
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["benchmark"] == "x" and line["rounds"] == 3 and line["cores"] >= 1
    assert line["bars"] == [
        {"what": "speed", "value": 0.5, "at_least": 0.95, "met": False},
        {"what": "memory", "value": 2.0, "at_most": 3.0, "met": True},
    ]
