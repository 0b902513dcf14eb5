"""Pictures of skeletons: bones where they belong, missing joints, several bodies, galleries."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tubelets.cli.main import main
from tubelets.skeletons import LAYOUTS, SkeletonLayout, layout_named
from tubelets.visualization.skeletons import (
    LEFT,
    RIGHT,
    draw_skeletons,
    neighbour_panels,
    save_skeleton_gif,
    turned_upright,
)

ARMS = SkeletonLayout.of(
    "arms", ["chest", "left_hand", "right_hand"], [("left_hand", "chest"), ("right_hand", "chest")]
)  # fmt: skip


def coloured(frame: torch.Tensor, colour: tuple[int, int, int]) -> torch.Tensor:
    return (frame == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0)


def test_bones_are_drawn_where_they_are() -> None:
    body = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 2.0]]).view(1, 1, 3, 2)
    up, down = (draw_skeletons(body, ARMS, size=100, upwards=upwards)[0] for upwards in (True, False))
    rows, columns = coloured(up, LEFT).nonzero().unbind(dim=1)
    assert columns.max() < 52  # from the middle to the left
    assert rows.max() - rows.min() <= 3
    for frame, rises in ((up, True), (down, False)):
        bone = coloured(frame, RIGHT).nonzero()
        assert bone[:, 1].min() > 48
        left_end, right_end = bone[bone[:, 1].argmin(), 0], bone[bone[:, 1].argmax(), 0]
        assert (right_end < left_end) == rises


def test_missing_joints_have_no_bones_and_bodies_differ() -> None:
    body = torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]).view(1, 1, 3, 2)
    frame = draw_skeletons(body, ARMS, size=64)[0]
    assert not coloured(frame, LEFT).any()
    assert coloured(frame, RIGHT).any()
    both = draw_skeletons(torch.cat([body, body + 1]), ARMS, size=64)[0]
    assert coloured(both, tuple(int(value * 0.6) for value in RIGHT)).any()  # type: ignore[arg-type]
    nothing = draw_skeletons(torch.zeros(1, 2, 3, 2), ARMS, size=16)
    assert len(nothing.flatten(2).unique(dim=2)[0, 0]) == 1


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_any_layout_becomes_an_animation(layout: SkeletonLayout, tmp_path: Path) -> None:
    recording = torch.rand(2, 5, layout.num_joints, 3)
    save_skeleton_gif({"a": recording, "b": recording}, layout, tmp_path / "a.gif", size=48)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 5  # type: ignore[attr-defined]
        assert image.size[0] >= 96


def test_the_centre_of_an_upright_body_is_drawn() -> None:
    layout = layout_named("kinect-25")
    recording = torch.randn(1, 4, 25, 3)
    recording[0, 2, 7] = 0
    turned, axes = turned_upright(recording, layout)
    assert axes == (0, 2)
    assert torch.equal((turned != 0).any(dim=-1), (recording != 0).any(dim=-1))


def test_neighbours_keep_their_order() -> None:
    recordings = [torch.rand(1, frames, 25, 3) for frames in (9, 30, 80)]
    panels = neighbour_panels(recordings[0], recordings[1:], ["wave", "wave"], num_frames=16)
    assert list(panels) == ["query", "1: wave", "2: wave"]
    assert {panel.shape for panel in panels.values()} == {(1, 16, 25, 3)}
    with pytest.raises(ValueError, match="give one for each"):
        neighbour_panels(recordings[0], recordings[1:], ["wave"])
    with pytest.raises(ValueError, match="same number of frames"):
        save_skeleton_gif({"a": recordings[0], "b": recordings[1]}, layout_named("kinect-25"), "a.gif", size=16)


def test_the_verb_draws_augmentations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "walk.npy", np.random.default_rng(0).standard_normal((1, 70, 25, 3)))
    words = ["gallery", "skeletons", "--skeletons", str(tmp_path / "walk.npy"), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--layout", "kinect-25"]) == 0
    with Image.open(tmp_path / "out" / "walk_0.gif") as image:
        assert image.n_frames == 64  # type: ignore[attr-defined]
        assert image.size[0] > 5 * 160
    assert main(words) != 0
    assert "name it with --layout" in capsys.readouterr().err
