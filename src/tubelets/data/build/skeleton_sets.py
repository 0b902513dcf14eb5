"""Data sets of skeletons as the shard builder takes them: NTU RGB+D and PKU-MMD by protocol, folders of any files."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.registry import modality_named
from tubelets.data.modalities.skeleton_files import Recording, read_pku, write_recording
from tubelets.data.sources.file_folders import list_files
from tubelets.data.sources.records import VideoRecord, check_unique_ids, printable
from tubelets.data.sources.splits import canonical_split
from tubelets.skeletons.layouts import KINECT_25

Splits = dict[str | None, list[VideoRecord]]

_SUBJECTS_60 = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
_SUBJECTS_120 = _SUBJECTS_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
}  # fmt: skip
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
# PKU-MMD cuts longer actions to this many frames (skeleton_contrast.md, section 6.4).
PKU_FRAMES = 300


@dataclass(frozen=True)
class NtuName:
    """What the name of an NTU file says.

    Attributes:
        setup: set-up, from 1.
        camera: 1 to 3.
        performer: person, from 1.
        replication: 1 or 2.
        action: class, from 1.

    Example:
        >>> NtuName.of("S001C002P003R002A013.skeleton").action
        13
    """

    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    @classmethod
    def of(cls, name: str) -> "NtuName | None":
        """The parts of a file name; None if it is another one."""
        found = _NTU_NAME.match(name)
        return None if found is None else cls(*map(int, found.groups()))


@dataclass(frozen=True)
class _Protocol:
    classes: int
    trains: Callable[[NtuName], bool]


NTU_PROTOCOLS: Mapping[str, _Protocol] = {
    "ntu60_xsub": _Protocol(60, lambda name: name.performer in _SUBJECTS_60),
    "ntu60_xview": _Protocol(60, lambda name: name.camera in (2, 3)),
    "ntu120_xsub": _Protocol(120, lambda name: name.performer in _SUBJECTS_120),
    "ntu120_xsetup": _Protocol(120, lambda name: name.setup % 2 == 0),
}
"""Which samples of NTU RGB+D train; the others test (skeleton_contrast.md, section 6.2)."""

PKU_PROTOCOLS = {"pku_xsub": "cross_subject", "pku_xview": "cross_view"}
"""Start of the name of the split file of PKU-MMD."""

PROTOCOLS = (*NTU_PROTOCOLS, *PKU_PROTOCOLS)


def missing_ntu_samples() -> frozenset[str]:
    """Names of the NTU samples without usable skeletons, which every protocol leaves out.

    Example:
        >>> len(missing_ntu_samples())
        535
    """
    file = resources.files("tubelets.data.assets") / "ntu_missing_skeletons.txt"
    return frozenset(file.read_text(encoding="utf-8").split())


def skeleton_splits(
    source: str | Path, protocol: str | None = None, work_dir: str | Path | None = None
) -> tuple[Splits, list[str] | None]:
    """The recordings of a folder by split, and the names of the classes where the data set fixes them.

    Args:
        source: for NTU, a folder with `.skeleton` files at any depth; for PKU-MMD, a folder with `skeleton/`, `label/`
            and `cross_subject*.txt` or `cross_view*.txt`; otherwise class folders, or folders of splits that hold them,
            of recordings: arrays, `.skeleton`, `.bvh`, `.json`, and folders with one OpenPose file for each frame.
        protocol: one of `PROTOCOLS`; None takes splits and classes from the folders.
        work_dir: where the actions that are cut out of PKU-MMD's videos are written.

    Returns:
        Records by split, under None if nothing says a split; class names, or None.

    Raises:
        ValueError: if the protocol is unknown, or the folder has no file of it.
        FileNotFoundError: if a file of PKU-MMD is missing.
    """
    source = Path(source)
    if protocol is None:
        return _by_folders(source), None
    if protocol in NTU_PROTOCOLS:
        return _ntu(source, NTU_PROTOCOLS[protocol])
    if protocol not in PKU_PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} must be one of {', '.join(PROTOCOLS)}")
    if work_dir is None:
        raise ValueError("PKU-MMD's actions are cut out of its videos; give work_dir, where they are written")
    return _pku(source, PKU_PROTOCOLS[protocol], Path(work_dir))


def _ntu(source: Path, protocol: _Protocol) -> tuple[Splits, list[str]]:
    left_out, splits = missing_ntu_samples(), Splits()
    for path in list_files(source):
        name = NtuName.of(path.name)
        if path.suffix.lower() != ".skeleton" or name is None or path.stem in left_out:
            continue
        if name.action > protocol.classes:
            continue
        record = VideoRecord(source / path, f"A{name.action:03d}", None, path.stem, main="skeleton")
        splits.setdefault("train" if protocol.trains(name) else "test", []).append(record)
    if not splits:
        raise ValueError(f"{source} has no file such as S001C002P003R002A013.skeleton; give the folder of NTU RGB+D")
    for records in splits.values():
        check_unique_ids(records)
    return splits, [f"A{number:03d}" for number in range(1, protocol.classes + 1)]


def _pku(source: Path, start: str, work_dir: Path) -> tuple[Splits, list[str]]:
    """Cut every labelled action into a file of its own."""
    found = sorted(source.glob(f"{start}*.txt")) + sorted(source.glob(f"split/{start}*.txt"))
    if not found:
        raise FileNotFoundError(f"{source} has no {start}*.txt; give the folder of PKU-MMD with its split files")
    lines = found[0].read_text(encoding="utf-8").splitlines()
    if len(lines) < 4:
        raise ValueError(f"{found[0]} has {len(lines)} lines; line 2 lists training and line 4 validation videos")
    work_dir.mkdir(parents=True, exist_ok=True)
    splits, numbers = Splits(), set()
    for split, line in (("train", lines[1]), ("test", lines[3])):
        for video in filter(None, (name.strip() for name in line.split(","))):
            for number, record in _pku_actions(source, video, work_dir):
                numbers.add(number)
                splits.setdefault(split, []).append(record)
    if not splits:
        raise ValueError(f"{found[0]} lists no video; line 2 lists training and line 4 validation videos")
    return splits, [f"{number:02d}" for number in range(1, max(numbers) + 1)]


def _pku_actions(source: Path, video: str, work_dir: Path) -> list[tuple[int, VideoRecord]]:
    data, records = (source / "skeleton" / f"{video}.txt").read_bytes(), []
    joints = read_pku(data, f"{video}.txt")
    labels = (source / "label" / f"{video}.txt").read_text(encoding="utf-8")
    for place, line in enumerate(filter(None, map(str.strip, labels.splitlines()))):
        try:
            number, first, last = (int(float(part)) for part in line.split(",")[:3])
        except ValueError as error:
            raise BadMediumError(f"label {video}.txt: {line!r} is not `class,start,end,confidence`") from error
        clip = joints[:, first:last][:, :PKU_FRAMES]
        if number < 1 or not clip.size:
            raise BadMediumError(f"label {video}.txt: {line!r} lies outside of its {joints.shape[1]} frames")
        name = f"{video}_{place:03d}"
        path = work_dir / f"{name}.npz"
        path.write_bytes(write_recording(Recording(clip, KINECT_25, fps=30.0)))
        records.append((number, VideoRecord(path, f"{number:02d}", None, name, main="skeleton")))
    return records


def _by_folders(source: Path) -> Splits:
    """Recordings in class folders, below folders of splits if there are any."""
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [folder.name for folder in folders]
    if names and all(canonical_split(name) in ("train", "validation", "test") for name in names):
        splits: Splits = {folder.name: _recordings(folder) for folder in folders}
    else:
        splits = {None: _recordings(source)}
    for split, records in splits.items():
        if not records:
            raise ValueError(
                f"{source}{'' if split is None else f'/{split}'} has no recording; known are .json, folders of "
                f"OpenPose files, and {', '.join('.' + each for each in modality_named('skeleton').suffixes)}"
            )
        check_unique_ids(records)
    return splits


def _recordings(folder: Path) -> list[VideoRecord]:
    suffixes = {f".{each}" for each in modality_named("skeleton").suffixes} | {".json"}
    files = [path for path in list_files(folder) if path.suffix.lower() in suffixes]
    # OpenPose writes a file for each frame; their folder is the recording.
    frames = {path.parent for path in files if path.name.endswith("_keypoints.json") and path.parent.parts}
    found = sorted({path for path in files if path.parent not in frames} | frames, key=lambda path: path.as_posix())
    records = []
    for path in found:
        label = printable(path.parts[0]) if len(path.parts) > 1 else None
        records.append(VideoRecord(folder / path, label, None, printable(path.as_posix()), main="skeleton"))
    if any(record.label is None for record in records):
        records = [replace(record, label=None) for record in records]
    return records


def recording_bytes(path: Path) -> bytes:
    """The bytes of a file, or the files of a folder of frames as one JSON list, in the order of their names.

    Raises:
        OSError: if it cannot be read.
    """
    if not path.is_dir():
        return path.read_bytes()
    parts = [file.read_bytes() for file in sorted(path.glob("*.json"))]
    return b"[" + b",".join(parts) + b"]"
