"""What `argus status` shows people."""

from __future__ import annotations

from argus.cli.status import WIDTH, describe
from argus.v1 import admin_pb2, cluster_pb2, image_pb2


def node(name: str, device: str, *variants: str) -> admin_pb2.NodeStatus:
    return admin_pb2.NodeStatus(
        hello=cluster_pb2.NodeHello(
            node=name,
            device=device,
            device_name="NVIDIA H200",
            slots=16,
            max_lanes=8,
            variants=[
                cluster_pb2.ResidentVariant(variant=image_pb2.Variant(name=v)) for v in variants
            ],
        ),
        heartbeat=cluster_pb2.Heartbeat(
            rows=3, waiting=1, lanes=6, peak_lanes=8, slots_free=13, images_total=12345
        ),
        heartbeat_age_s=0.21,
        backlog_s=12.34,
    )


def answer(nodes: list[admin_pb2.NodeStatus], *levels: tuple[str, str]) -> list[str]:
    return describe(
        admin_pb2.GetStatusResponse(
            argus_version="0.1.0",
            uptime_s=93.0,
            nodes=nodes,
            levels=[
                admin_pb2.LevelStatus(
                    name=name, variant=variant, steps_fraction=1.0, quality=1.0, answered=12345
                )
                for name, variant in levels
            ],
            in_flight=4,
            queued=1,
            capacity=1024,
            counters=admin_pb2.Counters(accepted=123456, answered=123450, on_time=123400),
        )
    )


def test_a_usual_cluster_has_two_lines_a_node_and_one_a_level() -> None:
    lines = answer(
        [node("node-0", "cuda:0", "scenes-base", "scenes-small"), node("node-1", "cuda:1", "x")],
        ("scenes-base-reference", "scenes-base"),
    )
    assert lines == [
        "argus 0.1.0, up 93 s, 4 of 1024 requests in flight (1 queued)",
        "since the start: 123456 accepted, 123450 answered, 123400 on time, 0 refused, 0",
        "    cancelled, 0 failed, 0 replayed",
        "",
        "nodes",
        "  node-0  serving   lanes 6/8  slots 3/16  1 waiting  backlog 12.3 s",
        "    variants scenes-base, scenes-small; cuda:0 (NVIDIA H200); peak 8 lanes;",
        "    12345 images; seen 0.2 s ago",
        "  node-1  serving   lanes 6/8  slots 3/16  1 waiting  backlog 12.3 s",
        "    variants x; cuda:1 (NVIDIA H200); peak 8 lanes; 12345 images; seen 0.2 s ago",
        "",
        "levels",
        "  quality  steps  answered  level",
        "     1.00   100%     12345  scenes-base-reference on scenes-base",
    ]


def test_long_names_are_whole_and_no_line_is_wider_than_the_terminal() -> None:
    name, variant = "n" * 63, "stable-diffusion-xl-base-1.0"
    lines = answer([node(name, "cuda:0", variant, variant)], (f"{variant}-reference", variant))
    assert max(len(line) for line in lines) <= WIDTH
    text = " ".join(" ".join(lines).split())
    assert name in text
    assert f"variants {variant}, {variant};" in text
    assert f"{variant}-reference on {variant}" in text


def test_an_empty_cluster_says_so() -> None:
    assert "no node" in answer([])


def test_the_cache_has_a_line_where_there_is_one() -> None:
    status = admin_pb2.GetStatusResponse(
        counters=admin_pb2.Counters(reused=1234, state_misses=12, steps_saved=23456),
        cache=admin_pb2.CacheStatus(
            embedder="e",
            entries=4321,
            lookups=3000,
            near=1300,
            fetches=[admin_pb2.FetchTimes(tier="sibling", p50_s=0.00017, p99_s=0.0084)],
        ),
    )
    lines = describe(status)
    assert all(len(line) <= WIDTH for line in lines)
    said = " ".join(line.strip() for line in lines)
    assert "cache: 4321 entries, 3000 look-ups, 1300 with a near prompt, 1234 reused" in said
    assert "12 missed, 23456 steps saved; fetches: sibling 0.17 ms (99 %: 8.4)" in said
    assert not any(line.startswith("cache") for line in describe(admin_pb2.GetStatusResponse()))
    idle = describe(admin_pb2.GetStatusResponse(cache=admin_pb2.CacheStatus()))
    assert any(line.startswith("cache: not in use") for line in idle)


def test_what_comparing_live_pictures_shows_comes_before_the_nodes() -> None:
    quality = admin_pb2.QualityStatus(
        shadow_share=0.01,
        scorer="facts",
        sampled=140,
        compared=120,
        undefined=3,
        withdrawn=9,
        dropped=12,
        failed=1,
        waiting=4,
        residual=-0.0512,
        alarms=[
            admin_pb2.DriftAlarm(worse=True, residual=-0.0512, pictures=100),
            admin_pb2.DriftAlarm(level="base-tenth", residual=0.21, pictures=34),
        ],
        margin=0.043,
        held=0.915,
        bounds_judged=120,
        trouble="no such folder",
    )
    lines = describe(admin_pb2.GetStatusResponse(argus_version="0", quality=quality))
    start = next(i for i, line in enumerate(lines) if line.startswith("quality"))
    assert lines[start:] == [
        "quality: 120 of 140 sampled pictures compared by facts (4 waiting, 9 withdrawn,",
        "    12 dropped, 3 undefined, 1 failed); observed - predicted -0.051; 92% held",
        "    their bound, margin 0.043",
        "  ALARM: all levels: pictures are worse than predicted, -0.051 on average of the",
        "    last 100",
        "  ALARM: level base-tenth: pictures are better than predicted, +0.210 on average",
        "    of the last 34",
        "  TROUBLE: no such folder",
        "",
        "no node",
        "",
        "levels",
        "  quality  steps  answered  level",
    ]


def test_who_leads_is_said_where_others_stand_by() -> None:
    lead = admin_pb2.LeadershipStatus(epoch=3, since_s=61.0, waiting=1)
    lines = describe(admin_pb2.GetStatusResponse(leadership=lead))
    assert "leads for 61 s, epoch 3; 1 waiting to take over" in lines
    assert not any("leads" in line for line in describe(admin_pb2.GetStatusResponse()))
