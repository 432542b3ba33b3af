"""What an operator is given for Prometheus and Grafana: it is valid, and speaks of metrics that exist."""

from __future__ import annotations

import re
import subprocess
from itertools import combinations
from typing import Any

import pytest
import yaml

from paceline.web.catalogue import peer_rows, swarm_rows
from tests.web.prometheus import (
    OPS,
    PROMTOOL,
    dashboard,
    dashboard_queries,
    hurried_alerts,
    hurried_configuration,
    needs_prometheus,
)

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
SCRAPED = {row.name for row in (*peer_rows(), *swarm_rows())}
PANELS: list[dict[str, Any]] = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, cwd=OPS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@needs_prometheus
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml")]
)
def test_the_configuration_and_the_alerts_are_valid(arguments: tuple[str, ...]) -> None:
    assert "SUCCESS" in promtool(*arguments)


@needs_prometheus
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_shown_to_fire_and_to_be_quiet() -> None:
    cases = [
        case
        for test in yaml.safe_load((OPS / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert names - {case["alertname"] for case in cases if not case.get("exp_alerts")} == {
        "PacelineDiskFilling"
    }
    # whose one case has a disk that is quiet among two that are told


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["annotations"]["description"].rstrip().endswith((".", "again."))


def test_the_hurried_copies_differ_in_nothing_but_time_and_place() -> None:
    waits = r"(for|scrape_interval|evaluation_interval|refresh_interval): \S+"
    for hurried, name in ((hurried_alerts(), "alerts.yml"), (hurried_configuration("x"), "prometheus.yml")):
        original = yaml.safe_dump(yaml.safe_load((OPS / name).read_text()), sort_keys=False)
        plain = re.sub(waits, "", original).replace("127.0.0.1:8088", "x")
        assert re.sub(waits, "", hurried) == plain


@pytest.mark.parametrize(
    "expression", [*dashboard_queries(), *(rule["expr"] for rule in RULES)], ids=lambda text: text[:60]
)
def test_alerts_and_dashboard_speak_of_metrics_that_exist(expression: str) -> None:
    named = set(re.findall(r"\bpaceline_\w+", expression))
    assert named <= SCRAPED
    assert named or "up{" in expression


def test_the_dashboard_shows_most_of_what_is_scraped() -> None:
    shown = {name for expression in dashboard_queries() for name in re.findall(r"\bpaceline_\w+", expression)}
    swarm = {row.name for row in swarm_rows()}
    said_otherwise = {
        "paceline_swarm_rounds_planned",
        "paceline_swarm_last_commit_timestamp_seconds",
        "paceline_swarm_last_heard_age_seconds",
        "paceline_swarm_watch_age_seconds",
        "paceline_swarm_watch_blind",
        "paceline_swarm_commit_wait_seconds",
        "paceline_swarm_stalled_after_seconds",
        "paceline_swarm_peer_sent_bytes_total",
        "paceline_swarm_peer_received_bytes_total",
    }
    assert swarm - shown == said_otherwise


def test_the_dashboard_asks_the_data_source_and_the_run_that_are_chosen() -> None:
    content = dashboard()
    assert [variable["name"] for variable in content["templating"]["list"]] == ["datasource", "run", "peer"]
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            for metric in re.findall(r"paceline_\w+(.)", target["expr"]):
                assert metric == "{"
            assert target["expr"].count('run_id="$run"') == len(re.findall(r"paceline_\w+", target["expr"]))


def test_the_dashboard_is_laid_out_without_gap_or_overlap() -> None:
    content = dashboard()
    panels = content["panels"]
    assert content["schemaVersion"] >= 39
    assert (content["uid"], content["id"]) == ("paceline", None)
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: list[set[tuple[int, int]]] = []
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells.append({(column, row) for column in columns for row in rows})
    assert all(not one & other for one, other in combinations(cells, 2))
    covered = set.union(*cells)
    assert covered == {(column, row) for column in range(24) for row in range(1 + max(y for _, y in covered))}


def test_every_panel_has_a_title_and_tells_its_lines_apart() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends)
        assert len({target["refId"] for target in panel["targets"]}) == len(legends)
