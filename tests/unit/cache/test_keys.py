from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from argus.cache.fingerprint import folder_fingerprint
from argus.cache.keys import EntryKey, Partition, guidance_class, normalise_prompt
from argus.errors import InvalidArgumentError, ModelError
from argus.models import bundled_variants
from tests.unit.cache.build import PARTITION


def test_every_field_of_a_partition_keeps_it_apart() -> None:
    values = {"variant": "x", "weights": "x", "sampler": "x", "steps": 9, "width": 9, "height": 9}
    values |= {"guidance_class": 1, "negative": "x", "eta": 0.5, "adapters": "x", "tenant": "x"}
    assert set(values) == {field.name for field in fields(Partition)}
    digests = {replace(PARTITION, **{name: value}).digest for name, value in values.items()}
    assert len(digests | {PARTITION.digest}) == len(values) + 1


def test_the_shared_pool_is_no_tenant_whatever_a_tenant_is_called() -> None:
    pools = {replace(PARTITION, tenant=name).digest for name in ("", "shared", "None", "null")}
    assert replace(PARTITION, tenant=None).digest not in pools
    assert len(pools) == 4


def test_digests_are_the_same_in_another_process() -> None:
    code = (
        "from tests.unit.cache.build import PARTITION, key;"
        "print(PARTITION.digest, key('A  red\\tCircle'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
    )
    assert found.stdout.split() == [
        PARTITION.digest,
        str(EntryKey.of(PARTITION, "a red circle")),
    ]


def test_a_partition_and_a_key_survive_being_written_down() -> None:
    assert Partition.from_json(PARTITION.to_json()) == PARTITION
    key = EntryKey.of(PARTITION, "a red circle")
    assert EntryKey.parse(str(key)) == key


@pytest.mark.parametrize(
    "text", ["", "x", "." * 3, "0" * 32 + ".." + "0" * 31, "A" * 32 + "." * 33]
)
def test_what_is_not_a_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        EntryKey.parse(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"variant": 1, "colour": 2}'])
def test_what_is_not_a_partition_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Partition.from_json(text)


def test_prompts_differ_by_words_not_by_case_width_or_spaces() -> None:
    assert normalise_prompt("  A Red\n\u00a0ＣＩＲＣＬＥ ") == "a red circle"
    assert normalise_prompt("a red circle.") != normalise_prompt("a red circle")


def test_guidance_falls_into_classes_of_half_units_and_off_is_its_own() -> None:
    assert {guidance_class(g) for g in (0.0, 0.7, 1.0)} == {0}
    assert guidance_class(1.01) != 0
    assert guidance_class(7.4) == guidance_class(7.5) != guidance_class(7.0)
    classes = [guidance_class(g / 10) for g in range(501)]
    assert classes == sorted(classes)


def test_a_negative_prompt_counts_only_where_guidance_uses_it() -> None:
    def of(guidance: float, negative: str) -> Partition:
        return Partition.of(
            variant="v", weights="w", sampler="s", steps=20, width=8, height=8,
            guidance=guidance, negative_prompt=negative,
        )  # fmt: skip

    assert of(5.0, "blurry") != of(5.0, "") == of(5.0, "  ")
    assert of(1.0, "blurry") == of(1.0, "")


def test_a_tenant_that_shares_shares_with_all_who_do() -> None:
    def of(tenant: str, shared: bool) -> Partition:
        return Partition.of(
            variant="v", weights="w", sampler="s", steps=20, width=8, height=8,
            guidance=5.0, tenant=tenant, shared=shared,
        )  # fmt: skip

    assert of("a", True) == of("b", True)
    assert len({of("a", False), of("b", False), of("a", True)}) == 3


def copied(source: Path, target: Path) -> Path:
    for path in (source / "text_encoder").iterdir():
        target.mkdir(exist_ok=True)
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_fingerprint_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    source = bundled_variants()["scenes-base"]
    one, two = copied(source, tmp_path / "one"), copied(source, tmp_path / "two")
    before = folder_fingerprint(one)
    assert before == folder_fingerprint(two)

    weights = two / "model.safetensors"
    data = bytearray(weights.read_bytes())
    header = int.from_bytes(data[:8], "little")
    data[8 + header] ^= 1
    weights.write_bytes(data)
    assert folder_fingerprint(two) != before

    (one / "config.json").write_text("{}")
    assert folder_fingerprint(one) != before


def test_a_folder_without_sound_weights_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no .safetensors"):
        folder_fingerprint(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{bad}")
    with pytest.raises(ModelError, match="header"):
        folder_fingerprint(tmp_path)
