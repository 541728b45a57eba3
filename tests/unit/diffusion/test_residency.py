"""Where a variant's weights are: their size, and moving them off and back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from parity import Pair, make_request
from safetensors.torch import load_file
from tiny_models import TINY

from argus.diffusion.adapter import load_variant
from argus.diffusion.flow import FLOW_SAMPLERS
from argus.errors import ModelError

CPU, META = torch.device("cpu"), torch.device("meta")


def stored_bytes(folder: Path) -> int:
    """Bytes of all tensors in the folder's files."""
    files = folder.rglob("*.safetensors")
    return sum(tensor.nbytes for file in files for tensor in load_file(file).values())


@pytest.mark.parametrize("name", ["tiny-eps", "tiny-xl", "tiny-sd3", "tiny-flux-fast"])
def test_a_parked_variant_holds_nothing_and_comes_back_the_same(tmp_path: Path, name: str) -> None:
    folder = TINY[name](tmp_path / name)
    pair = Pair({name: folder})
    try:
        adapter = pair.engine.adapters[name]
        held = adapter.weights_bytes
        # Position numbers and SD3's position grid are made, not stored.
        assert stored_bytes(folder) <= held <= 1.05 * stored_bytes(folder) + 20_000
        sampler = FLOW_SAMPLERS[0] if "euler" not in adapter.info.samplers else "euler"
        wanted = make_request(name, sampler, steps=2, guidance=3.0)
        before = pair.ours(wanted)[0]
        adapter.move(META)
        assert (adapter.device, adapter.weights_bytes) == (META, held)
        modules = adapter._modules._modules.values()
        assert all(t.is_meta for m in modules for t in (*m.parameters(), *m.buffers()))
        adapter.move(CPU)
        assert adapter.device == CPU
        assert pair.ours(wanted)[0].equal(before)
    finally:
        pair.close()


def test_a_variant_whose_folder_went_bad_stays_parked_and_says_why(tmp_path: Path) -> None:
    folder = TINY["tiny-eps"](tmp_path / "tiny-eps")
    adapter = load_variant(folder, CPU, torch.float32)
    adapter.move(META)
    kept = tmp_path / "kept"
    (folder / "unet").rename(kept)
    with pytest.raises(ModelError, match="the folder unet/ is missing"):
        adapter.move(CPU)
    assert adapter.device == META
    kept.rename(folder / "unet")
    adapter.move(CPU)
    assert adapter.device == CPU


def test_a_move_that_fails_leaves_all_modules_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = load_variant(TINY["tiny-eps"](tmp_path / "tiny-eps"), CPU, torch.float32)
    before = adapter.decode(torch.zeros(1, 4, 8, 8))
    vae = adapter._modules["vae"]
    to = vae.to

    def no_room(*args: object, **options: object) -> object:
        if options.get("dtype") is None and options.get("device") == torch.device("cpu", 0):
            raise torch.OutOfMemoryError("no room")
        return to(*args, **options)

    monkeypatch.setattr(vae, "to", no_room)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        adapter.move(torch.device("cpu", 0))
    assert adapter.device == CPU
    assert adapter.decode(torch.zeros(1, 4, 8, 8)).equal(before)


def test_weights_that_moved_away_on_disk_are_not_needed_while_resident(tmp_path: Path) -> None:
    folder = TINY["tiny-eps"](tmp_path / "tiny-eps")
    adapter = load_variant(folder, CPU, torch.float32)
    shutil.rmtree(folder)
    assert adapter.encode("a red circle", False, 32, 32).truncated == ""


@pytest.mark.gpu
def test_a_variant_goes_to_the_host_and_back_to_the_gpu(tmp_path: Path) -> None:
    gpu = torch.device("cuda", 0)
    adapter = load_variant(TINY["tiny-eps"](tmp_path / "tiny-eps"), gpu, torch.float32)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)).to(gpu)
    before = adapter.decode(latents)
    empty = torch.cuda.memory_allocated(gpu) - adapter.weights_bytes
    adapter.move(CPU)
    assert all(p.is_pinned() for p in adapter._modules["unet"].parameters())
    assert torch.cuda.memory_allocated(gpu) <= empty + 2**20
    adapter.move(gpu)
    assert adapter.decode(latents).equal(before)
