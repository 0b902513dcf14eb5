"""Files of skeletons: every format, damaged ones, shards by kind and protocol, streams of whole recordings."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tubelets.data.build.data_sets import build_data_set
from tubelets.data.build.skeleton_sets import NTU_PROTOCOLS, NtuName, skeleton_splits
from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.skeleton_files import Recording, read_recording, write_recording
from tubelets.data.modalities.specs import SkeletonSpec
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.skeletons import layout_named

KINECT = SkeletonSpec("kinect-25", 8, 25, num_bodies=2, sampling="whole")


def joints(bodies: int = 1, frames: int = 6, count: int = 25, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, (bodies, frames, count, 3)).astype(np.float32).round(4)


def ntu_text(values: np.ndarray, count: int = 25) -> str:
    """A `.skeleton` file of bodies `(bodies, frames, joints, 3)`."""
    lines = [str(values.shape[1])]
    for frame in range(values.shape[1]):
        lines.append(str(len(values)))
        for body in values[:, frame]:
            lines += ["72057594037931101 0 1 1 1 1 0 0.02 -0.1 2", str(count)]
            lines += [" ".join(f"{value:.4f}" for value in joint) + " 1 2 3 4 0 0 0 1 2" for joint in body]
    return "\n".join(lines) + "\n"


def arrays(**entries: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **entries)
    return file.getvalue()


def test_ntu_keeps_the_bodies_that_move_most() -> None:
    values = joints(3)
    values[1] = values[1, :1]  # stands still, but its joints differ
    values[1, :, :, :] *= 0.01
    found = read_recording(ntu_text(values).encode(), "a.skeleton")
    assert found.layout is not None
    assert (found.layout.name, found.fps, found.joints.shape) == ("kinect-25", 30.0, (2, 6, 25, 3))
    energy = values.reshape(3, -1, 3).std(axis=1).sum(axis=1)
    np.testing.assert_allclose(found.joints, values[np.argsort(energy)[::-1][:2]], atol=1e-6)


def openpose(values: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"people": [{"pose_keypoints_2d": body.flatten().tolist()} for body in values[:, frame]]}
        for frame in range(values.shape[1])
    ]


def test_formats_of_pose_estimators_agree() -> None:
    values = joints(2, 5)
    found = read_recording(json.dumps(openpose(values)).encode(), "openpose.json")
    np.testing.assert_allclose(found.joints, values, atol=1e-6)
    assert found.has_confidence
    coco = joints(2, 5, 17)
    results = [
        {"image_id": frame, "keypoints": coco[body, frame].flatten().tolist(), "score": 1 - body, "category_id": 1}
        for frame in range(5)
        for body in (1, 0)
    ]
    for content in (results, {"images": [], "annotations": results, "fps": 25}):
        found = read_recording(json.dumps(content).encode(), "coco.json")
        np.testing.assert_allclose(found.joints, coco, atol=1e-6)
        assert found.layout == layout_named("coco-17")
    assert found.fps == 25
    points = np.random.default_rng(1).uniform(0.1, 1, (4, 33, 4)).round(4)
    frames = [[dict(zip(("x", "y", "z", "visibility"), point, strict=True)) for point in frame] for frame in points]
    for content in (
        frames,
        {"frames": [{"pose_landmarks": frame} for frame in frames]},
        [{"poseLandmarks": [frame]} for frame in frames],
    ):
        found = read_recording(json.dumps(content, default=float).encode(), "mediapipe.json")
        np.testing.assert_allclose(found.joints[0], points, atol=1e-6)
        assert found.layout == layout_named("mediapipe-33")


def test_joints_without_confidence_are_missing() -> None:
    values = joints(1, 2)
    values[0, 1, 3, 2] = 0
    found = read_recording(json.dumps(openpose(values)).encode(), "openpose.json").joints
    assert not found[0, 1, 3].any()
    assert found[0, 0, 3].all()


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 1.0 0.0 0.0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftUpLeg
  {
    OFFSET 0.0 -2.0 0.0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0.0 -3.0 0.0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
0 0 0 0 0 0 0 0 0
0 5 0 90 0 0 0 90 0
"""


def test_bvh_gives_positions_by_forward_kinematics() -> None:
    found = read_recording(BVH.encode(), "jump.bvh")
    assert found.layout is not None
    assert found.layout.joints == ("spine_base", "left_hip", "left_hip_end")
    assert found.layout.bones == ((1, 0), (2, 1))
    assert found.fps == 25
    first, second = found.joints[0]
    np.testing.assert_allclose(first, [[1, 0, 0], [1, -2, 0], [1, -5, 0]], atol=1e-6)
    more = read_recording((BVH + "1 2 3 4 5 6 7 8 9\n").encode(), "jump.bvh")  # one frame more than stated
    np.testing.assert_array_equal(more.joints, found.joints)
    # The hip turns by 90 degrees about z, the leg in its frame by 90 degrees about x.
    np.testing.assert_allclose(second, [[1, 5, 0], [3, 5, 0], [3, 5, -3]], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand"), ("collar", "shoulder", "elbow", "wrist")),
        (("LeftCollar", "LeftShoulder", "LeftElbow", "LeftWrist"), ("collar", "shoulder", "elbow", "wrist")),
        (("LHipJoint", "lThigh", "lShin", "lFoot"), (None, "hip", "knee", "ankle")),
    ],
)
def test_joints_of_motion_capture_get_our_names(names: tuple[str, ...], expected: tuple[str | None, ...]) -> None:
    """Some programs name bones, so that the shoulder is a collar bone, others joints."""
    chain = "".join(f" JOINT {name} {{ OFFSET 0 1 0 CHANNELS 1 Xrotation" for name in names)
    text = f"HIERARCHY ROOT Hips {{ OFFSET 0 0 0 CHANNELS 3 Xposition Yposition Zposition{chain}"
    text += " } " * (len(names) + 1) + "MOTION Frames: 1 Frame Time: 0.01 " + "1 " * (3 + len(names))
    layout = read_recording(text.encode(), "a.bvh").layout
    assert layout is not None
    wanted = [name if ours is None else f"left_{ours}" for name, ours in zip(names, expected, strict=True)]
    assert layout.joints == ("spine_base", *wanted)


def test_recordings_are_stored_the_same_each_time() -> None:
    recording = Recording(joints(2), layout_named("kinect-25"), 30.0, has_confidence=True)
    assert write_recording(recording) == write_recording(recording)
    again = read_recording(write_recording(recording), "a.npz")
    np.testing.assert_array_equal(again.joints, recording.joints)
    assert (again.layout, again.fps, again.has_confidence) == (recording.layout, 30.0, True)


NAN = joints()
NAN[0, 1, 2, 0] = np.nan
PKU = "\n".join(" ".join(["0.5"] * 150) for _ in range(3))
DAMAGED = {
    "truncated": (ntu_text(joints(2))[:-40], r"ends in frame \d of 6|is no number|truncated"),
    "cut between frames": ("\n".join(ntu_text(joints()).splitlines()[:29]), "ends in frame 1 of 6"),
    "too long": (ntu_text(joints()) + "1 2 3\n", "3 numbers after its 6 frames"),
    "zero frames": ("0\n", "states 0 frames"),
    "joint count": (ntu_text(joints(count=20), count=20), "has 20 joints, expected 25"),
    "no body": ("2\n0\n0\n", "shows no body in its 2 frames"),
    "line of PKU": (PKU + "\n0.5 0.5", "line 4 has 2 numbers; PKU-MMD has 150"),
    "not finite": (arrays(skeleton=NAN), "not finite"),
    "NaN in text": (ntu_text(joints()).replace("0.02", "nan", 1).replace(" -0.1 ", " nan "), "not finite"),
    "shape": (arrays(skeleton=joints()[0]), r"shape \(6, 25, 3\)"),
    "empty": (arrays(skeleton=joints()[:, :0]), "none of them empty"),
    "pickle": (arrays(skeleton=np.array([{"a": 1}], dtype=object)), "pickled Python objects"),
    "frame rate": (arrays(skeleton=joints(), fps=np.array(-1)), "fps must be one number"),
    "layout": (arrays(skeleton=joints(), layout=np.frombuffer(b"mine", np.uint8)), "'mine' is not built in"),
    "joints of the layout": (arrays(skeleton=joints(), layout=np.frombuffer(b"coco-17", np.uint8)), "coco-17' has 17"),
    "nobody": (json.dumps([{"people": []}] * 3), "shows no body in its 3 frames"),
    "mixed layouts": (json.dumps(openpose(joints()) + openpose(joints(count=18))), "several layouts are not read"),
    "other JSON": (json.dumps({"a": 1}), "not the JSON of OpenPose, COCO or MediaPipe"),
    "JSON cut": (json.dumps(openpose(joints()))[:-30], "is no JSON"),
    "deep JSON": ("[" * 100_000, "is no JSON"),
    "motion cut": (BVH[:-20], "is empty or truncated"),
    "hierarchy cut": (BVH[:150], "damaged or truncated"),
    "nothing": ("", "cannot be read as"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named(name: str) -> None:
    content, message = DAMAGED[name]
    data = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(BadMediumError, match=message):
        read_recording(data, "clip")


def source_of(tmp_path: Path, **files: bytes | str) -> FolderSource:
    records = []
    for name, content in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        records.append(VideoRecord(path, None, None, name, main="skeleton"))
    return FolderSource(records)


def test_streams_read_whole_recordings_and_count_bad_ones(tmp_path: Path) -> None:
    source = source_of(
        tmp_path,
        a__skeleton=ntu_text(joints(1, 12)),
        b__npz=arrays(skeleton=joints(3, 5)),
        c__skeleton=ntu_text(joints())[:500],
        d__npy=b"no array",
        e__npz=arrays(skeleton=joints(1, 4, 17)),
        f__npz=arrays(skeleton=np.zeros((1, 4, 25, 3))),
    )
    spec = {"skeletons": SkeletonSpec("kinect-25", 8, 25, num_bodies=2, sampling="whole", max_frames=10)}
    loader = ClipLoader(ClipStream(source, ClipSpec.for_specs(spec), specs=spec, shuffle_window=0, batch_size=1))
    found = {batch["clip_id"][0]: batch["skeletons"] for batch in loader}
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "a__skeleton": (1, 2, 10, 25, 3), "b__npz": (1, 2, 5, 25, 3),
    }  # fmt: skip
    assert not found["a__skeleton"][0, 1].any()
    assert loader.num_skipped == 4
    reasons = {bad["clip_id"]: bad["reason"] for bad in loader.bad_samples}
    assert "17 joints with 3 coordinates" in reasons["e__npz"]
    assert "no joint that is not zero" in reasons["f__npz"]


def test_recordings_are_converted_to_the_layout_of_the_model(tmp_path: Path) -> None:
    values = joints(1, 6)
    source = source_of(tmp_path, a__json=json.dumps(openpose(values)))
    spec = {"skeletons": SkeletonSpec("coco-17", 3, 17, num_coordinates=2)}
    (item,) = ClipStream(source, ClipSpec(3, 2, sampling="uniform"), specs=spec)
    assert item["skeletons"].shape == (1, 3, 17, 2)
    knee = layout_named("openpose-25").index("left_knee")
    expected = torch.from_numpy(values[0, [1, 3, 5], knee, :2])
    torch.testing.assert_close(item["skeletons"][0, :, layout_named("coco-17").index("left_knee")], expected)
    with_confidence = {"skeletons": SkeletonSpec("coco-17", 3, 17, num_coordinates=3)}
    (item,) = ClipStream(source, ClipSpec(3, 2, sampling="uniform"), specs=with_confidence)
    assert item["skeletons"].shape == (1, 3, 17, 3)


def test_ntu_protocols(tmp_path: Path) -> None:
    left_out = "S001C002P005R002A008"
    names = [
        f"S{s:03d}C{c:03d}P{p:03d}R001A{a:03d}" for s in (1, 2) for c in (1, 2, 3) for p in (1, 3) for a in (1, 70)
    ]
    folder = tmp_path / "nturgb+d_skeletons" / "deep"
    folder.mkdir(parents=True)
    for name in (*names, left_out):
        (folder / f"{name}.skeleton").write_text(ntu_text(joints(1, 2)))
    expected = {
        "ntu60_xsub": lambda n: n.performer == 1, "ntu60_xview": lambda n: n.camera > 1,
        "ntu120_xsub": lambda n: n.performer == 1, "ntu120_xsetup": lambda n: n.setup == 2,
    }  # fmt: skip
    assert expected.keys() == NTU_PROTOCOLS.keys()
    for protocol, trains in expected.items():
        splits, classes = skeleton_splits(tmp_path, protocol)
        assert classes is not None
        assert len(classes) == (60 if "60" in protocol else 120)
        found = {record.clip_id: split for split, records in splits.items() for record in records}
        kept = [name for name in names if "120" in protocol or name.endswith("A001")]
        parsed = {name: NtuName.of(name) for name in kept}
        assert found == {name: "train" if trains(each) else "test" for name, each in parsed.items()}
    with pytest.raises(ValueError, match="must be one of ntu60_xsub"):
        skeleton_splits(tmp_path, "ntu61")


def test_shards_of_ntu_are_smaller_and_stream(tmp_path: Path) -> None:
    folder = tmp_path / "ntu"
    folder.mkdir()
    sizes = 0
    for camera in (1, 2, 3):
        for action in (1, 60):
            path = folder / f"S001C00{camera}P001R001A{action:03d}.skeleton"
            path.write_text(ntu_text(joints(1, 40, seed=action)))
            sizes += path.stat().st_size
    (folder / "S001C001P001R002A003.skeleton").write_text(ntu_text(joints())[:300])
    options: dict[str, Any] = {"kind": "skeletons", "protocol": "ntu60_xview", "progress": False}
    reports = build_data_set(folder, tmp_path / "shards", **options)
    assert {split: report.num_clips for split, report in reports.items()} == {"train": 4, "test": 2}
    (bad,) = reports["test"].bad_files
    assert (bad.clip_id, "truncated" in bad.reason or "number" in bad.reason) == ("S001C001P001R002A003", True)
    assert sum(report.num_bytes for report in reports.values()) < sizes
    source = open_source(tmp_path / "shards", split="test")
    assert source.class_names is not None
    assert (len(source.class_names), source.class_names[59]) == (60, "A060")
    items = list(ClipStream(source, ClipSpec.for_specs({"s": KINECT}), specs={"s": KINECT}, shuffle_window=0))
    assert {item["label"] for item in items} == {0, 59}
    for item in items:
        np.testing.assert_allclose(item["s"][0], joints(1, 40, seed=item["label"] + 1)[0], atol=1e-6)
    again = build_data_set(folder, tmp_path / "shards", **options)
    assert not any(report.written for report in again.values())


def test_pku_actions_are_cut_out_of_videos(tmp_path: Path) -> None:
    values = joints(2, 500)
    for folder, text in {"skeleton": None, "label": "2,10,30,1\n1,100,480,2\n"}.items():
        (tmp_path / "pku" / folder).mkdir(parents=True)
        for video in ("0001-L", "0002-M"):
            lines = values.transpose(1, 0, 2, 3).reshape(500, 150)
            content = "\n".join(" ".join(f"{value:.4f}" for value in line) for line in lines)
            (tmp_path / "pku" / folder / f"{video}.txt").write_text(text or content)
    (tmp_path / "pku" / "cross_subject_v1.txt").write_text("Training videos:\n0001-L, \nValidation:\n0002-M\n")
    options: dict[str, Any] = {"kind": "skeletons", "protocol": "pku_xsub", "progress": False}
    build_data_set(tmp_path / "pku", tmp_path / "shards", **options)
    source = open_source(tmp_path / "shards", split="test")
    assert source.class_names == ["01", "02"]
    items = {item["clip_id"]: item for item in ClipStream(source, ClipSpec(1), specs={"s": KINECT}, shuffle_window=0)}
    assert {name: (item["label"], item["s"].shape[1]) for name, item in items.items()} == {
        "0002-M_000": (1, 20), "0002-M_001": (0, 300),
    }  # fmt: skip
    np.testing.assert_allclose(items["0002-M_000"]["s"], values[:, 10:30], atol=1e-6)


def test_folders_of_frames_and_of_classes(tmp_path: Path) -> None:
    values = joints(1, 3)
    for number, frame in enumerate(openpose(values)):
        path = tmp_path / "poses" / "wave" / "clip1" / f"clip1_{number:012d}_keypoints.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(frame))
    (tmp_path / "poses" / "jump").mkdir()
    (tmp_path / "poses" / "jump" / "a.bvh").write_text(BVH)
    splits, classes = skeleton_splits(tmp_path / "poses")
    assert classes is None
    assert {(record.clip_id, record.label) for record in splits[None]} == {
        ("jump/a.bvh", "jump"), ("wave/clip1", "wave"),
    }  # fmt: skip
    build_data_set(tmp_path / "poses" / "wave", tmp_path / "shards", kind="skeletons", progress=False)
    spec = {"s": SkeletonSpec("openpose-25", 3, 25, num_coordinates=2, sampling="whole")}
    (item,) = ClipStream(open_source(tmp_path / "shards"), ClipSpec(1), specs=spec)
    np.testing.assert_allclose(item["s"][0], values[0, ..., :2], atol=1e-6)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"has no recording; known are \.json"):
        skeleton_splits(tmp_path / "none")


def test_class_folders_of_recordings_need_no_shards(tmp_path: Path) -> None:
    for name in ("jump", "wave"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.skeleton").write_text(ntu_text(joints(1, 4)))
        np.save(tmp_path / name / "b.npy", joints(2, 5))
    (tmp_path / "jump" / "model.safetensors").write_bytes(b"weights")
    source = open_source(tmp_path)
    items = list(ClipStream(source, ClipSpec(1), specs={"s": KINECT}))
    assert source.class_names == ["jump", "wave"]
    assert {(item["clip_id"], item["label"], item["s"].shape[1]) for item in items} == {
        ("jump/a.skeleton", 0, 4), ("jump/b.npy", 0, 5), ("wave/a.skeleton", 1, 4), ("wave/b.npy", 1, 5),
    }  # fmt: skip
