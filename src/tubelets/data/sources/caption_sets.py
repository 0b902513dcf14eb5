"""Annotation files of data sets of videos with captions, as published (video_text_retrieval.md, section 4)."""

import csv
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubelets.data.modalities.suffixes import VIDEO_SUFFIXES
from tubelets.data.sources.records import VideoRecord

logger = logging.getLogger("tubelets.data")

Captions = dict[str, list[str]]
"""Sentences of each video by the name of its file, with or without suffix."""


@dataclass(frozen=True)
class CaptionSet:
    """A data set of videos with captions.

    Attributes:
        title: its usual name.
        splits: reader of each split and the names of its files, alternatives in order of preference.
        get: where a user gets annotations and videos.
    """

    title: str
    splits: Mapping[str, tuple[tuple[Callable[..., Captions], tuple[str, ...]], ...]]
    get: str


def read_caption_set(name: str, folder: str | Path, root: str | Path) -> dict[str, list[VideoRecord]]:
    """Records of the splits of a data set whose annotation files are in a folder.

    Args:
        name: one of `CAPTION_SETS`.
        folder: the annotation files, as they are published.
        root: folder of the videos, at any depth.

    Returns:
        Records by split, in the order of the files: those with a video under `root`. The others are counted in the log,
        since videos of the web disappear.

    Raises:
        FileNotFoundError: if annotation files are missing, or no video is found; the message says where to get them.
        ValueError: if the data set is unknown, or a file has another content.

    Example:
        >>> read_caption_set("msrvtt", "nowhere", "videos")
        Traceback (most recent call last):
        ...
        FileNotFoundError: nowhere has none of the annotation files of MSR-VTT ...
    """
    if name not in CAPTION_SETS:
        raise ValueError(f"the data set {name!r} is unknown; choose one of {', '.join(CAPTION_SETS)}")
    known, folder = CAPTION_SETS[name], Path(folder)
    found = {split: _read_split(folder, readers) for split, readers in known.splits.items()}
    wanted = sorted({file for readers in known.splits.values() for _, files in readers for file in files})
    if not any(found.values()):
        raise FileNotFoundError(
            f"{folder} has none of the annotation files of {known.title} ({', '.join(wanted)}); get them first: "
            f"{known.get}"
        )
    videos = _videos_below(Path(root))
    splits: dict[str, list[VideoRecord]] = {}
    for split, captions in found.items():
        if captions is None:
            logger.warning("%s has no annotation files of the split %s of %s", folder, split, known.title)
            continue
        there = {video: _place(video, videos) for video in captions}
        missing = [video for video, path in there.items() if path is None]
        if missing:
            logger.warning(
                "%d of %d videos of the split %s are not below %s, such as %s", len(missing), len(there), split, root,
                missing[0],
            )  # fmt: skip
        splits[split] = [_record(video, path, captions[video]) for video, path in there.items() if path is not None]
    if not any(splits.values()):
        raise FileNotFoundError(
            f"none of the videos of {known.title} is below {root}; give their folder as root. {known.get}"
        )
    return {split: records for split, records in splits.items() if records}


def _read_split(folder: Path, readers: Iterable[tuple[Callable[..., Captions], tuple[str, ...]]]) -> Captions | None:
    """The captions of a split by the first reader whose files are there."""
    for reader, names in readers:
        paths = [folder / name for name in names]
        if all(path.is_file() for path in paths):
            try:
                return reader(*paths)
            except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
                raise ValueError(
                    f"{', '.join(map(str, paths))} is not such an annotation file ({error!r}); get it again"
                ) from error
    return None


def _videos_below(root: Path) -> dict[str, Path]:
    """Videos by the name of their file and without its suffix."""
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return {key: path for path in paths for key in (path.stem, path.name)}


def _place(video: str, videos: Mapping[str, Path]) -> Path | None:
    """The file of a video; another suffix will do, because many are stored re-encoded."""
    name = Path(video).name
    stem = Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name
    return videos.get(name) or videos.get(stem)


def _record(video: str, path: Path, captions: list[str]) -> VideoRecord:
    several = tuple(captions) if len(captions) > 1 else ()
    return VideoRecord(path, None, None if several else captions[0], video, captions=several)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _listed(path: Path) -> Captions:
    """A list of `{"video": name or names, "caption": sentence or sentences}`, as Singularity and VindLU use."""
    found: Captions = defaultdict(list)
    for row in _json(path):
        videos, captions = row["video"], row["caption"]
        for video in [videos] if isinstance(videos, str) else videos:
            found[video] += [captions] if isinstance(captions, str) else captions
    return dict(found)


def _something(field: str) -> Callable[[Path], Captions]:
    """The authors' lists of Something-Something v2, `{"id", "label", "template"}`."""

    def read(path: Path) -> Captions:
        return {f"{row['id']}.webm": [row[field]] for row in _json(path)}

    return read


def _msrvtt(data: Path, listed: Path) -> Captions:
    """All sentences of the videos that a csv file with the column `video_id` lists."""
    found: Captions = {row["video_id"]: [] for row in _rows(listed)}
    for sentence in _json(data)["sentences"]:
        if sentence["video_id"] in found:
            found[sentence["video_id"]].append(sentence["caption"])
    return {video: captions for video, captions in found.items() if captions}


def _msrvtt_pairs(listed: Path) -> Captions:
    """The 1,000 pairs of the usual test, columns `video_id` and `sentence`."""
    return {row["video_id"]: [row["sentence"]] for row in _rows(listed)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _didemo(path: Path) -> Captions:
    """Moments with descriptions; all of a video are one paragraph, in the order of the file."""
    found: Captions = defaultdict(list)
    for row in _json(path):
        found[row["video"]].append(row["description"].strip())
    return {video: [_paragraph(sentences)] for video, sentences in found.items()}


def _activitynet(path: Path) -> Captions:
    """Sentences with times; all of a video are one paragraph."""
    return {video: [_paragraph(row["sentences"])] for video, row in _json(path).items()}


def _paragraph(sentences: Iterable[str]) -> str:
    """Sentences joined by full stops.

    Example:
        >>> _paragraph(["a dog runs", " It barks. "])
        'a dog runs. It barks.'
    """
    return " ".join(f"{sentence.strip().rstrip('.')}." for sentence in sentences if sentence.strip())


_SSV2_GET = (
    "the retrieval lists are in anno_downstream of github.com/jayleicn/singularity, the lists of all videos and the "
    "videos themselves are given out by Qualcomm (Something-Something v2)"
)
_MSRVTT_GET = (
    "MSRVTT_data.json, the lists of 9k and 7k training videos and the 1k-A test pairs are in the archive that "
    "github.com/ArrowLuo/CLIP4Clip names; the videos are in MSRVTT.zip of the same page"
)


def _ssv2(kind: str, field: str) -> CaptionSet:
    lists = {"train": "train", "validation": "val_small"}
    authors = {"train": "train", "validation": "validation"}
    splits = {
        split: (
            (_listed, (f"ssv2_ret_{kind}_{name}.json",)),
            (_something(field), (f"something-something-v2-{authors[split]}.json",)),
        )
        for split, name in lists.items()
    }
    return CaptionSet(f"SSv2-{kind.title()}", splits, _SSV2_GET)


def _msrvtt_set(size: str) -> CaptionSet:
    train = (_msrvtt, ("MSRVTT_data.json", f"MSRVTT_train.{size}.csv"))
    lists = (_listed, (f"msrvtt_ret_train{size}.json",)), (_listed, ("msrvtt_ret_test1k.json",))
    pairs = (_msrvtt_pairs, ("MSRVTT_JSFUSION_test.csv",))
    return CaptionSet("MSR-VTT", {"train": (train, lists[0]), "test": (pairs, lists[1])}, _MSRVTT_GET)


def _didemo_split(name: str) -> tuple[tuple[Callable[..., Captions], tuple[str, ...]], ...]:
    return (_didemo, (f"{name}_data.json",)), (_listed, (f"didemo_ret_{name}.json",))


CAPTION_SETS: dict[str, CaptionSet] = {
    "ssv2_template": _ssv2("template", "template"),
    "ssv2_label": _ssv2("label", "label"),
    "msrvtt": _msrvtt_set("9k"),
    "msrvtt_7k": _msrvtt_set("7k"),
    "didemo": CaptionSet(
        "DiDeMo",
        {split: _didemo_split(name) for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))},
        "train_data.json, val_data.json, test_data.json and the way to the videos are at "
        "github.com/LisaAnne/LocalizingMoments",
    ),
    "activitynet": CaptionSet(
        "ActivityNet Captions",
        {
            "train": ((_activitynet, ("train.json",)), (_listed, ("anet_ret_train.json",))),
            "test": ((_activitynet, ("val_1.json",)), (_listed, ("anet_ret_val_1.json",))),
        },
        "train.json and val_1.json are in captions.zip of cs.stanford.edu/people/ranjaykrishna/densevid, the videos at "
        "activity-net.org",
    ),
}
"""Data sets by name."""
