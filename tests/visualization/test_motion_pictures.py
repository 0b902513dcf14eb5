"""Boxes, masks and animations of motion, and the gallery that shows them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from tubelets.cli.main import main
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records
from tubelets.motion import MotionRecord
from tubelets.visualization.motion import BOX_COLOURS, MASK_GREY, draw_boxes, hide_tokens, save_gif
from videos import make_video

SMALL = ["--size", "48", "--num-frames", "8", "--clips", "2"]


def gallery(out: Path, *words: str) -> int:
    return main(["gallery", "motion", *SMALL, "--output_dir", str(out), *words])


def pictures(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def test_boxes_are_drawn_where_they_are_and_nowhere_else() -> None:
    frames = torch.full((3, 3, 40, 40), 9, dtype=torch.uint8)
    boxes = torch.tensor([[[5 + t, 6, 21 + t, 16] for t in range(3)], [[30, 30, 60, 60]] * 3])
    drawn = draw_boxes(frames, boxes, line=1)
    first, second = (torch.tensor(colour, dtype=torch.uint8)[:, None] for colour in BOX_COLOURS[:2])
    for t in range(3):
        assert (drawn[t, :, 6, 5 + t : 21 + t] == first).all()
        assert (drawn[t, :, 6:16, 20 + t] == first).all()
        assert (drawn[t, :, 30, 30:40] == second).all()
        assert (drawn[t, :, 20:30] == 9).all()
    # The path of the centre grows.
    assert (drawn[2] != drawn[0]).any()
    assert (frames == 9).all()
    with pytest.raises(ValueError, match=r"\(objects, 3, 4\) for these frames, got \(2, 2, 4\)"):
        draw_boxes(frames, boxes[:, :2])
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(frames.float(), boxes)


def test_masked_tokens_are_grey_and_others_are_kept() -> None:
    frames = torch.randint(100, 256, (4, 3, 16, 24), dtype=torch.uint8)
    mask = torch.rand(2 * 2 * 3, generator=torch.Generator().manual_seed(0)) < 0.5
    hidden = hide_tokens(frames, mask, (2, 2, 3))
    for place, masked in enumerate(mask.tolist()):
        time, row, column = place // 6, place // 3 % 2, place % 3
        block = (slice(2 * time, 2 * time + 2), slice(None), slice(8 * row, 8 * row + 8))
        block = (*block, slice(8 * column, 8 * column + 8))
        assert (hidden[block] == (MASK_GREY if masked else frames[block])).all()
    with pytest.raises(ValueError, match=r"needs 12 tokens .* got 11 tokens"):
        hide_tokens(frames, mask[1:], (2, 2, 3))
    with pytest.raises(ValueError, match=r"got 12 tokens and \(4, 16, 24\)"):
        hide_tokens(frames, mask, (3, 2, 2))


def test_animations_keep_frames_and_their_order(tmp_path: Path) -> None:
    greys = torch.tensor([0, 80, 160, 240], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 20, 30).contiguous()
    path = save_gif({"up": greys, "down": greys.flip(0)}, tmp_path / "deep" / "grey.gif", frames_per_second=10)
    found = pictures(path)
    assert len(found) == 4
    for number, frame in enumerate(found):
        assert abs(int(frame[-5, 5, 0]) - 80 * number) < 4
        assert abs(int(frame[-5, -5, 0]) - 80 * (3 - number)) < 4
    with pytest.raises(ValueError, match="panels of one shape"):
        save_gif({}, tmp_path / "none.gif")
    with pytest.raises(ValueError, match="speed"):
        save_gif({"a": greys}, tmp_path / "none.gif", frames_per_second=0)


def test_galleries_show_shapes(tmp_path: Path) -> None:
    assert gallery(tmp_path, "--seed", "3") == 0
    written = json.loads((tmp_path / "motions.json").read_text())
    assert len(written) == 2
    for number, values in enumerate(written):
        frames = pictures(tmp_path / f"clip_{number}.gif")
        assert len(frames) == 8
        assert len({frame.tobytes() for frame in frames}) == 8
        plain, moved, boxes, masked = (
            np.stack([frame[14:, left : left + 48] for frame in frames]).astype(int) for left in range(0, 4 * 52, 52)
        )
        assert plain.std() < 2
        assert moved.std() > 2
        # Boxes show in every frame, where the record has them.
        for t in range(8):
            assert (abs(boxes[t] - moved[t]).max(axis=-1) > 60).sum() > 20
        assert 0.6 < (abs(masked - MASK_GREY).max(axis=-1) < 8).mean() < 0.9
        assert values.pop("caption").endswith(".")
        assert len(MotionRecord.from_dict(values).boxes) == len(values["boxes"])
        with Image.open(tmp_path / f"clip_{number}.png") as image:
            assert min(image.size) > 300


@pytest.mark.parametrize("motion", ["smile", "tubelet_contrast", "locomotion"])
def test_objects_move_over_videos_and_shards(motion: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(2):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(make_video(40, 64, 96, seed=number))
    build_shards(read_records(tmp_path / "videos"), tmp_path / "shards", progress=False)
    seen = {}
    for name, frames in {"file": tmp_path / "videos" / "0.mp4", "shards": tmp_path / "shards"}.items():
        out = tmp_path / name
        assert gallery(out, "--video", str(frames), "--motion", motion) == 0
        seen[name] = pictures(out / "clip_1.gif")
        assert len({frame[:, :48].tobytes() for frame in seen[name]}) > 1  # the footage itself moves
        assert any((frame[14:, :48] != frame[14:, 52:100]).any() for frame in seen[name])
    assert (seen["file"][0] != seen["shards"][0]).any()


def test_seeds_decide_what_is_drawn(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert gallery(tmp_path / name, "--seed", seed, "--background", "noise") == 0
    a, b, c = ((tmp_path / name / "clip_0.gif").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--motion", "tubelet_contrast"], "cut from a grey background cannot be seen"),
        (["--size", "50"], "multiples of 16, got 2, 8 and 50"),
        (["--num-frames", "7"], "got 2, 7 and 48"),
        (["--clips", "0"], "at least 1 clip"),
        (["--motion", "smiles"], "'smiles' is none of smile, tubelet_contrast, locomotion; did you mean 'smile'?"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gallery(tmp_path, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
