"""Sets of cut-outs: drawn shapes, folders, data sets of images in the layout of the published objects."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from tubelets.data.assets.objects import (
    MAX_PIXELS,
    MAX_SIDE,
    DatasetObjects,
    FileObjects,
    ObjectSet,
    ShapeObjects,
    folder_objects,
    noun_of,
    open_objects,
    read_object,
)
from tubelets.data.modalities.video import BadVideoError, open_video
from tubelets.motion import MotionSettings, object_patches, render, sample_motion, weighted_by_alpha

CATEGORIES = ("aerosol_can", "arctic_(type_of_shoe)", "owl")


def cut_out(seed: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    values = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 4), dtype=np.uint8)
    values[:3, :, 3] = 0
    return Image.fromarray(values, "RGBA")


def tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in each of three category folders: `category/index.png`, as the published set has them."""
    root = tmp_path / "objects"
    for number, category in enumerate(CATEGORIES):
        (root / category).mkdir(parents=True)
        for index in range(2):
            cut_out(2 * number + index).save(root / category / f"{index}.png")
    (root / "readme.txt").write_text("no image")
    return root


def check_set(objects: ObjectSet) -> None:
    """What every set has to be."""
    assert len(objects) == len(objects.names) == len(objects.ids) == len(objects.categories)
    assert len(set(objects.ids)) == len(objects)
    for place in (0, len(objects) - 1):
        image = objects[place]
        assert image.dtype == torch.uint8
        assert image.shape[0] == 4
        assert objects.weighted(place).equal(weighted_by_alpha(image))
        assert objects.index(objects.ids[place]) == place
    with pytest.raises(KeyError, match="object 'nothing' is not in this set"):
        objects.index("nothing")
    first, second = objects.split(0.3)
    assert len(first) + len(second) == len(objects)
    assert not set(first.names) & set(second.names)
    assert objects.split(0.3)[1].ids == second.ids
    assert second[0].equal(objects[objects.index(second.ids[0])])
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\)"):
        objects.split(1.0)


def test_shapes_are_a_set() -> None:
    objects = ShapeObjects(size=32)
    check_set(objects)
    assert objects[objects.index("red circle")][:3, 16, 16].tolist() == [214, 40, 40]
    assert len({tuple(objects[place].flatten().tolist()) for place in range(len(objects))}) == len(objects)


def test_a_folder_is_a_set(folder: Path) -> None:
    objects = folder_objects(folder)
    check_set(objects)
    assert objects.names == ["aerosol can"] * 2 + ["arctic"] * 2 + ["owl"] * 2
    assert objects.ids[0] == "aerosol_can/0.png"
    assert objects[5].equal(tensor_of(cut_out(5)))
    assert open_objects(folder).ids == objects.ids


def test_files_beside_each_other_are_named_by_themselves(tmp_path: Path) -> None:
    for name in ("blue_whale", "bat"):
        cut_out(1).save(tmp_path / f"{name}.png")
    assert folder_objects(tmp_path).names == ["bat", "blue whale"]


def test_a_data_set_of_category_folders_is_a_set(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    objects = DatasetObjects(dataset, folder=folder)
    check_set(objects)
    assert sorted(objects.categories) == sorted(CATEGORIES * 2)
    assert set(objects.names) == {"aerosol can", "arctic", "owl"}
    expected = {tuple(tensor_of(cut_out(seed)).flatten().tolist()) for seed in range(6)}
    assert {tuple(objects[place].flatten().tolist()) for place in range(6)} == expected
    assert DatasetObjects(dataset, label_column=None).names == ["object"] * 6
    # A row of an untrusted data set could name any file of this machine.
    with pytest.raises(ValueError, match=r"is the file .*png, which is not of this data set; store the bytes"):
        DatasetObjects(dataset)[0]
    with pytest.raises(ValueError, match="no column 'picture'"):
        DatasetObjects(dataset, "picture")


def test_objects_of_a_set_can_be_pasted(folder: Path) -> None:
    objects = folder_objects(folder)
    motion = sample_motion(MotionSettings.smile(), 1, 4, (64, 64), torch.Generator().manual_seed(0))
    frames = torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8)
    plain = render(frames, motion, object_patches([[objects[0], objects[5]]], motion))
    ready = render(frames, motion, object_patches([[objects.weighted(0), objects.weighted(5)]], motion, weighted=True))
    assert plain.any()
    assert plain.equal(ready)


def test_large_images_are_reduced_and_keep_their_ratio() -> None:
    buffer = io.BytesIO()
    cut_out(0, (MAX_SIDE * 3, MAX_SIDE)).save(buffer, "PNG")
    assert read_object(buffer.getvalue(), "large").shape == (4, round(MAX_SIDE / 3), MAX_SIDE)


def bomb(side: int, mode: str) -> bytes:
    """A file of some kilobytes that states `side` x `side` pixels."""
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "PNG")
    data = buffer.getvalue()
    header = struct.pack(">II", side, side) + data[24:29]
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


def test_images_that_take_gigabytes_are_refused() -> None:
    assert MAX_PIXELS < 10**8
    for side in (10_000, 100_000):
        with pytest.raises(ValueError, match=r"object 'bomb' (has 10000 x 10000 pixels|cannot be read as an image)"):
            read_object(bomb(side, "RGBA"), "bomb")
        with pytest.raises(BadVideoError, match=r"10000 x 10000 pixels, more than|have more than 67108864 pixels"):
            open_video(bomb(side, "RGB"), "pyav", name="bomb")


def test_images_that_are_no_cut_outs_are_refused(tmp_path: Path) -> None:
    cut_out(0).convert("RGB").save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    objects = folder_objects(tmp_path)
    with pytest.raises(ValueError, match=r"'plain.png' is an image without alpha \(RGB\)"):
        objects[objects.index("plain.png")]
    with pytest.raises(ValueError, match=r"'broken.png' cannot be read as an image"):
        objects[objects.index("broken.png")]


def test_sources_that_are_no_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no image with a suffix among"):
        folder_objects(tmp_path)
    with pytest.raises(ValueError, match="'no such thing' is not a set of objects"):
        open_objects("no such thing")
    with pytest.raises(ValueError, match="got 1 files, 2 names"):
        FileObjects([tmp_path / "a.png"], ["a", "b"], ["a"])
    with pytest.raises(ValueError, match="1 different ids"):
        FileObjects([tmp_path / "a.png"] * 2, ["a", "b"], ["a", "a"])


def test_class_names_become_nouns() -> None:
    assert [noun_of(name) for name in ("Bow_(weapon)", "hot_dog", "(odd)")] == ["bow", "hot dog", "(odd)"]
