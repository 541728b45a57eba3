"""Scenes: reproducible, disjoint in the split, drawn without overlap."""

import torch

from argus.models.scenes import POOR_CONTRAST, Scene, is_held_out, render, scene_at


def kinds(scene: Scene) -> frozenset[str]:
    return frozenset({f"{o.colour} {o.shape}" for o in scene.objects} | {scene.background})


def test_the_same_seed_gives_the_same_scene_and_picture() -> None:
    first = [scene_at(3, i) for i in range(20)]
    again = [scene_at(3, i) for i in range(20)]
    assert first == again
    assert torch.equal(render(first, 64), render(again, 64))
    assert first != [scene_at(4, i) for i in range(20)]


def test_training_and_held_out_combinations_are_disjoint() -> None:
    train = {kinds(scene_at(0, i, count=1)) for i in range(3000)}
    held = {kinds(scene_at(1, i, held_out=True, count=1)) for i in range(500)}
    assert held
    assert train.isdisjoint(held)


def test_the_split_ignores_order_position_and_size() -> None:
    for i in range(200):
        scene = scene_at(5, i, count=2)
        turned = Scene(scene.objects[::-1], "white", "column")
        assert is_held_out(scene) == is_held_out(turned)


def test_objects_lie_inside_and_apart_with_enough_contrast(scenes: list[Scene]) -> None:
    for scene in scenes + [scene_at(2, i) for i in range(2000)]:
        for i, a in enumerate(scene.objects):
            assert (a.colour, scene.background) not in POOR_CONTRAST
            assert a.radius < min(a.x, a.y, 1 - a.x, 1 - a.y)
            for b in scene.objects[i + 1 :]:
                apart = max(abs(a.x - b.x), abs(a.y - b.y))
                assert apart > a.radius + b.radius


def test_a_scene_can_be_drawn_at_any_resolution() -> None:
    scene = [scene_at(0, 1)]
    coarse, fine = render(scene, 32), render(scene, 128)
    shrunk = torch.nn.functional.avg_pool2d(fine, 4)
    assert (shrunk - coarse).abs().mean() < 0.01
