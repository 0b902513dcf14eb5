import os
from pathlib import Path

import numpy as np
import pytest

from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records, read_splits
from tubelets.data.sources.records import VideoRecord, class_fraction, find_class_names


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_class_is_the_first_folder_level_and_order_is_sorted(tmp_path):
    touch(tmp_path, "run/b.mp4", "run/day 1/a.MKV", "jump/z.avi", "run/notes.txt", "run/.hidden.mp4", ".cache/x.mp4")
    records = read_records(tmp_path)
    assert records == [
        VideoRecord(tmp_path / "jump/z.avi", "jump", None, "jump/z.avi"),
        VideoRecord(tmp_path / "run/b.mp4", "run", None, "run/b.mp4"),
        VideoRecord(tmp_path / "run/day 1/a.MKV", "run", None, "run/day 1/a.MKV"),
    ]
    assert find_class_names(records) == ["jump", "run"]


def test_flat_folder_is_unlabelled(tmp_path):
    records = read_records(touch(tmp_path, "b.mp4", "a.mp4"))
    assert [(r.clip_id, r.label) for r in records] == [("a.mp4", None), ("b.mp4", None)]
    assert find_class_names(records) is None


def test_a_loose_video_beside_class_folders_is_named_and_left_out(tmp_path):
    with pytest.warns(UserWarning, match=r"1 of 2 videos .*no class folder, for example 'b\.mp4'"):
        records = read_records(touch(tmp_path, "run/a.mp4", "b.mp4"))
    assert [record.clip_id for record in records] == ["run/a.mp4"]


def test_links_are_followed_and_dead_ones_are_named(tmp_path):
    touch(tmp_path / "elsewhere", "a.mp4", "more/b.mp4")
    touch(tmp_path / "videos", "run/c.mp4")
    (tmp_path / "videos/jump").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "videos/run/again").symlink_to(tmp_path / "videos")
    (tmp_path / "videos/run/dead.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "videos/sit").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="videos/sit is a link to nothing"):
        records = read_records(tmp_path / "videos")
    assert [record.clip_id for record in records] == ["jump/a.mp4", "jump/more/b.mp4", "run/c.mp4", "run/dead.mp4"]


def test_empty_inputs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lists no video"):
        read_records(tmp_path)
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="lists no video"):
        read_records(tmp_path / "list.txt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_records(tmp_path / "nothing")


def test_list_splits_at_the_last_space_and_keeps_missing_files(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("my videos/clip 1.mp4 10\n\nb.mp4   9\n")
    records = read_records(file, root=tmp_path / "videos")
    assert [(r.path, r.label, r.clip_id) for r in records] == [
        (tmp_path / "videos/my videos/clip 1.mp4", "10", "my videos/clip 1.mp4"),
        (tmp_path / "videos/b.mp4", "9", "b.mp4"),
    ]
    # Numbers are ordered by value: class "9" must not come behind class "10".
    assert find_class_names(records) == ["9", "10"]


def test_relative_paths_start_beside_the_list(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 run")
    assert read_records(tmp_path / "train.txt")[0].path == tmp_path / "a.mp4"


def test_list_line_without_label_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 run\nb.mp4\n")
    with pytest.raises(ValueError, match=r"line 2: 'b\.mp4' has no label"):
        read_records(tmp_path / "train.txt")


def test_duplicate_ids_are_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 run\na.mp4 jump\n")
    with pytest.raises(ValueError, match=r"clip id 'a\.mp4' occurs twice"):
        read_records(tmp_path / "train.txt")
    (tmp_path / "train.csv").write_text("path,label,id\na.mp4,run,1\nb.mp4,run,1\n")
    with pytest.raises(ValueError, match=r"clip id '1' occurs twice, for a\.mp4 and b\.mp4"):
        read_records(tmp_path / "train.csv")


def test_csv_with_all_columns(tmp_path):
    file = tmp_path / "all.csv"
    file.write_text('path,label,caption,id,split\n"a, b.mp4",run,"A dog, running",x,train\nc.mp4,jump,,y,val\n')
    assert read_records(file, split="train") == [VideoRecord(tmp_path / "a, b.mp4", "run", "A dog, running", "x")]
    assert [(r.clip_id, r.caption) for r in read_records(file)] == [("x", "A dog, running"), ("y", "")]
    with pytest.raises(ValueError, match=r"no rows of split 'test'; its splits are \['train', 'val'\]"):
        read_records(file, split="test")


def test_csv_with_captions_only(tmp_path):
    (tmp_path / "c.csv").write_text("path,caption\na.mp4,A dog\n")
    assert read_records(tmp_path / "c.csv") == [VideoRecord(tmp_path / "a.mp4", None, "A dog", "a.mp4")]


@pytest.mark.parametrize(
    ("text", "split", "message"),
    [
        ("name,label\na,1\n", None, "required are `path`"),
        ("path,label,class\na.mp4,1,2\n", "x", "no `split` column"),
        ("path,label,labels\na.mp4,1,2\n", None, "both a `label` and a `labels` column"),
        ("path,label,split\na.mp4,1,\n", None, "line 2: `split` is empty"),
        ("path\na.mp4\n", None, "required are `path`"),
        ("path,label\na.mp4,1\n", "train", "no `split` column"),
        ("path,label\na.mp4,\n", None, "line 2: `label` is empty"),
        ("path,label\n,run\n", None, "line 2: `path` is empty"),
    ],
)
def test_bad_csv(tmp_path, text, split, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_records(tmp_path / "x.csv", split=split)


def test_splits_of_other_inputs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no splits"):
        read_records(touch(tmp_path, "run/a.mp4"), split="train")


def test_class_names_file_fixes_the_order(tmp_path):
    records = [VideoRecord(Path("a.mp4"), "run", None, "a"), VideoRecord(Path("b.mp4"), "jump", None, "b")]
    names = tmp_path / "names.txt"
    names.write_text("run\nfly\njump\n")
    assert find_class_names(records, names) == ["run", "fly", "jump"]
    names.write_text("run\n")
    with pytest.raises(ValueError, match=r"label 'jump' of clip 'b' is not in .*1 classes"):
        find_class_names(records, names)
    names.write_text("run\nrun\njump\n")
    with pytest.raises(ValueError, match=r"\['run'\] more than once"):
        find_class_names(records, names)


def test_a_share_of_each_class_is_drawn_by_the_authors_rule() -> None:
    records = [VideoRecord(Path(f"{place}.mp4"), "abb"[place % 3], None, str(place)) for place in range(30)]
    chosen = class_fraction(records, 0.25, seed=99999)
    # ceil(0.25 * 10) and ceil(0.25 * 20), from one legacy stream, class after class.
    numbers = np.random.RandomState(99999)
    expected = {int(place) * 3 for place in numbers.choice(10, 3, replace=False)}
    others = [place for place in range(30) if place % 3]
    expected |= {others[place] for place in numbers.choice(20, 5, replace=False)}
    assert {int(record.clip_id) for record in chosen} == expected
    assert chosen == sorted(chosen, key=lambda record: int(record.clip_id))
    assert class_fraction(records, 1.0) == records
    for fraction in (0.0, 1.5):
        with pytest.raises(ValueError, match=str(fraction)):
            class_fraction(records, fraction)
    with pytest.raises(ValueError, match="video x has the label None; a share of each class needs exactly one"):
        class_fraction([VideoRecord(Path("x.mp4"), None, None, "x")], 0.5)


@pytest.mark.parametrize("suffix", ["gif", "mts", "m2ts", "vob", "mxf", "asf", "MOV"])
def test_suffixes_of_videos(tmp_path, suffix):
    assert len(read_records(touch(tmp_path, f"run/a.{suffix}"))) == 1


def test_class_folders_without_media_are_named(tmp_path):
    with pytest.warns(UserWarning, match=r"1 folders .* have no file with a known suffix, for example 'sit'"):
        read_records(touch(tmp_path, "run/a.mp4", "sit/b.xyz"))


def test_file_names_that_are_not_utf8(tmp_path):
    name = b"caf\xe9.mp4"
    (tmp_path / "videos/run").mkdir(parents=True)
    (Path(os.fsdecode(bytes(tmp_path / "videos/run") + b"/" + name))).write_bytes(b"no video")
    (record,) = read_records(tmp_path / "videos")
    assert record.clip_id == "run/caf\\xe9.mp4"
    assert record.path.read_bytes() == b"no video"
    report = build_shards([record], tmp_path / "out", class_names=["run"], progress=False)
    assert [(bad.clip_id, bad.file) for bad in report.bad_files] == [(record.clip_id, "caf\\xe9.mp4")]
    (tmp_path / "list.csv").write_bytes(b"path,label\nvideos/run/" + name + b",run\n")
    assert read_records(tmp_path / "list.csv")[0].path.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b.mp4 3\nc.mp4 4\n", [("a b.mp4", "3"), ("c.mp4", "4")]),
        ("a.mp4,3\nc.mp4,4\n", [("a.mp4", "3"), ("c.mp4", "4")]),
        ("a.mp4\ttwo words\n", [("a.mp4", "two words")]),
        ("a.mp4 120 3\n", [("a.mp4", "3")]),
        ("file_name,class\na.mp4,run\n", [("a.mp4", "run")]),
        ("filename;category\na.mp4;run\n", [("a.mp4", "run")]),
        ("clip\ttarget\na\trun\n", [("a", "run")]),
        ("video,labels\na.mp4,run;jump\n", [("a.mp4", ("run", "jump"))]),
    ],
)
def test_lists_of_other_tools(tmp_path, text, expected):
    (tmp_path / "x.csv").write_text(text)
    assert [(record.path.name, record.label) for record in read_records(tmp_path / "x.csv")] == expected


def test_columns_can_be_named(tmp_path):
    (tmp_path / "x.csv").write_text("name,verb,noun\na.mp4,open,door\n")
    (record,) = read_records(tmp_path / "x.csv", columns={"path": "name", "label": "verb", "caption": "noun"})
    assert (record.path.name, record.label, record.caption) == ("a.mp4", "open", "door")
    with pytest.raises(ValueError, match="no column 'verbs'"):
        read_records(tmp_path / "x.csv", columns={"path": "name", "label": "verbs"})
    with pytest.raises(ValueError, match="columns= names 'verb'; for csv files it can name"):
        read_records(tmp_path / "x.csv", columns={"path": "name", "verb": "verb"})


def test_splits_of_folders_and_lists(tmp_path):
    def ids(path):
        return {split: [record.clip_id for record in records] for split, records in read_splits(path).items()}

    touch(tmp_path / "videos", "train/run/a.mp4", "val/run/b.mp4", "test/sit/c.mp4")
    assert ids(tmp_path / "videos") == {"train": ["run/a.mp4"], "val": ["run/b.mp4"], "test": ["sit/c.mp4"]}
    assert ids(tmp_path / "videos/val") == {"val": ["run/b.mp4"]}
    touch(tmp_path / "classes", "test drive/a.mp4", "training a dog/b.mp4")
    assert list(ids(tmp_path / "classes")) == [None]
    touch(tmp_path / "lists", "notes.md")
    for name in ("train", "val"):
        (tmp_path / f"lists/{name}.csv").write_text(f"{name}.mp4 0\n")
    assert ids(tmp_path / "lists") == {"train": ["train.mp4"], "val": ["val.mp4"]}
    (tmp_path / "all.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,y,dev\n")
    assert ids(tmp_path / "all.csv") == {"train": ["a.mp4"], "dev": ["b.mp4"]}
