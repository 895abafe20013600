from __future__ import annotations

from dataclasses import replace

from airflow_mlops_provider.serving import router
from airflow_mlops_provider.serving.state import Deployment, EndpointState

MODEL = Deployment(model_uri="models:/m/1")
STATE = EndpointState(
    deployments={"champion": MODEL, "candidate": MODEL}, traffic={"champion": 95, "candidate": 5}
)
PORTS = {("e", "champion"): [1001], ("e", "candidate"): [1002]}


def route(state: EndpointState) -> dict:
    resource = router.routes({"e": state}, "1")["resources"][0]
    return resource["virtual_hosts"][0]["routes"][0]


def clusters(state: EndpointState, ports=PORTS) -> dict[str, dict[int, list[int]]]:
    """Cluster name to priority to ports."""
    return {
        resource["name"]: {
            group["priority"]: [
                each["endpoint"]["address"]["socket_address"]["port_value"]
                for each in group["lb_endpoints"]
            ]
            for group in resource["load_assignment"]["endpoints"]
        }
        for resource in router.clusters({"e": state}, ports, "1")["resources"]
    }


def test_weights_are_the_shares_of_those_with_traffic():
    found = route(replace(STATE, traffic={"champion": 100, "candidate": 0}))["route"]
    assert found["weighted_clusters"]["clusters"] == [{"name": "e/champion", "weight": 10_000}]
    found = route(STATE)["route"]["weighted_clusters"]["clusters"]
    assert {item["name"]: item["weight"] for item in found} == {
        "e/champion": 9_500,
        "e/candidate": 500,
    }


def test_only_the_endpoints_own_path_is_routed():
    assert route(STATE)["match"] == {"path": "/endpoints/e/invocations"}
    assert route(STATE)["route"]["prefix_rewrite"] == "/invocations"


def test_the_open_inference_protocol_has_the_same_weights():
    resource = router.routes({"e": STATE}, "1")["resources"][0]
    first, second, unknown = resource["virtual_hosts"][0]["routes"]
    assert second["match"] == {"path_separated_prefix": "/endpoints/e/v2"}
    assert second["route"] == {**first["route"], "prefix_rewrite": "/v2"}
    assert unknown["direct_response"]["status"] == 404


def test_killed_scorer_is_covered_by_retries_on_the_others():
    assert clusters(STATE) == {
        "e/champion": {0: [1001], 1: [1002]},
        "e/candidate": {0: [1002], 1: [1001]},
    }
    policy = route(STATE)["route"]["retry_policy"]
    assert "reset" in policy["retry_on"].split(",")
    assert policy["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"


def test_deployment_without_traffic_covers_for_nobody():
    idle = replace(STATE, traffic={"champion": 100})
    assert clusters(idle)["e/champion"] == {0: [1001]}
    assert clusters(idle)["e/candidate"] == {0: [1002], 1: [1001]}


def test_scorer_that_is_down_is_left_out():
    assert clusters(STATE, {("e", "champion"): [1001]})["e/candidate"] == {1: [1001]}


def test_workers_share_the_requests_of_their_deployment():
    ports = {("e", "champion"): [1001, 1003], ("e", "candidate"): [1002]}
    assert clusters(STATE, ports) == {
        "e/champion": {0: [1001, 1003], 1: [1002]},
        "e/candidate": {0: [1002], 1: [1001, 1003]},
    }
    (predicate,) = route(STATE)["route"]["retry_policy"]["retry_host_predicate"]
    assert predicate["name"] == "envoy.retry_host_predicates.previous_hosts"


def test_shield_asks_another_what_failed():
    assert "5xx" not in route(STATE)["route"]["retry_policy"]["retry_on"]
    shielded = route(replace(STATE, shield=True))["route"]["retry_policy"]
    assert shielded["retry_on"].split(",") == ["reset", "5xx"]


def test_mirror_has_a_cluster_of_its_own_that_nobody_covers():
    mirrored = replace(STATE, traffic={"champion": 100}, mirror_traffic={"candidate": 25})
    assert clusters(mirrored)["e/candidate/shadow"] == {0: [1002]}
    (policy,) = route(mirrored)["route"]["request_mirror_policies"]
    assert policy["cluster"] == "e/candidate/shadow"
    assert policy["runtime_fraction"]["default_value"] == {
        "numerator": 25,
        "denominator": "HUNDRED",
    }


def test_stickiness_hashes_the_entity():
    assert "hash_policy" not in route(STATE)["route"]
    sticky = route(replace(STATE, sticky=True))["route"]
    assert sticky["weighted_clusters"]["use_hash_policy"] is True
    assert sticky["hash_policy"] == [{"header": {"header_name": "x-entity-id"}}]


def test_endpoint_without_traffic_says_what_to_do():
    answer = route(replace(STATE, traffic={}))["direct_response"]
    assert answer["status"] == 503
    assert "set its traffic" in answer["body"]["inline_string"]


def test_clusters_survive_keep_alive_races_and_idle_times():
    (cluster, _) = router.clusters({"e": STATE}, PORTS, "1")["resources"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["idle_timeout"] == "3s"
    assert cluster["health_checks"][0]["no_traffic_interval"] == "1s"
    assert cluster["common_lb_config"]["healthy_panic_threshold"]["value"] == 0


def test_router_shares_its_port_with_nobody():
    config = router.bootstrap("127.0.0.1", 8601, "/tmp/x/admin", "/ws/router")  # noqa: S108 - a name only
    (listener,) = config["static_resources"]["listeners"]
    assert listener["enable_reuse_port"] is False
    assert config["admin"]["address"]["pipe"] == {"path": "/tmp/x/admin", "mode": 0o600}  # noqa: S108 - as above
