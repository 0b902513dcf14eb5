"""Assignment of samples to shards."""

import functools
import hashlib
import importlib.metadata
import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
from datasets import Audio, ClassLabel, Features, List, Value, Video

from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.modalities.modality import Modality
from tubelets.data.modalities.registry import modality_named
from tubelets.data.sources.records import VideoRecord, check_unique_ids

FACTS = {
    "video": {"num_frames": "int32", "fps": "float32", "height": "int32", "width": "int32"},
    "audio": {"duration": "float32", "sampling_rate": "int32"},
}
"""Columns that describe the main medium, by modality, and their types."""

_FEATURES: dict[str, Callable[[], Any]] = {
    "Video": Video,
    "Audio": Audio,
    "binary": lambda: {"bytes": Value("binary"), "path": Value("string")},
}
_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class ShardPlan:
    """Assignment of samples to shards; depends on the input and options, never on workers or jobs.

    All samples of a plan have the same media.

    Attributes:
        split: Name of the split, for example "train".
        shards: The samples of each shard, in their final order.
        class_names: Class names in label order, None when unlabelled.
        transcode: How videos are re-encoded.
        seed: Seed of the shuffle.
    """

    split: str
    shards: tuple[tuple[VideoRecord, ...], ...]
    class_names: tuple[str, ...] | None
    transcode: TranscodeOptions
    seed: int

    @classmethod
    def make(
        cls,
        records: Sequence[VideoRecord],
        *,
        split: str = "train",
        class_names: Sequence[str] | None = None,
        transcode: TranscodeOptions | None = None,
        max_shard_size: int | str = "256MB",
        clips_per_shard: int | None = None,
        seed: int = 0,
        num_readers: int = 1,
    ) -> "ShardPlan":
        """Shuffle the records and divide them into shards whose sizes differ by at most one clip.

        Args:
            records: The samples; at least one.
            split: Letters, digits, "_" and "." only: it starts the file names.
            class_names: Class names in label order; required for labelled records.
            transcode: How videos are re-encoded, by default not at all.
            max_shard_size: Bytes of *input* video a shard may hold on average ("256MB" is 256 million); the size after
                re-encoding is not known in advance.
            clips_per_shard: Maximum clips per shard; replaces `max_shard_size`.
            seed: Seed of the shuffle, so that shards mix the classes.
            num_readers: Processes times DataLoader workers that will read the split. Each gets a shard of its own, as
                far as there are clips; otherwise every one of them reads all bytes.

        Returns:
            The plan.

        Raises:
            ValueError: The list is empty, an id occurs twice, a label is not in `class_names`, records have different
                media, re-encoding is requested for audio, or a value is out of range.
        """
        _check_plan_input(records, split, class_names, clips_per_shard)
        if num_readers < 1:
            raise ValueError(f"num_readers={num_readers} must be at least 1")
        _check_kinds(records, transcode or TranscodeOptions())
        if clips_per_shard is None:
            budget = parse_size(max_shard_size)
            num_shards = max(
                1, -(-sum(_file_size(path) for record in records for _, path in record.media.values()) // budget)
            )
        else:
            num_shards = -(-len(records) // clips_per_shard)
        num_shards = min(max(num_shards, num_readers), len(records))
        # Sorted first, so that the listing order of the file system does not matter.
        order = sorted(records, key=lambda record: record.clip_id)
        random.Random(seed).shuffle(order)
        cuts = [len(order) * index // num_shards for index in range(num_shards + 1)]
        return cls(
            split,
            tuple(tuple(order[start:stop]) for start, stop in itertools.pairwise(cuts)),
            None if class_names is None or order[0].label is None else tuple(class_names),
            transcode or TranscodeOptions(),
            seed,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options that determine the content, as JSON values; all shards of a split in a folder share them."""
        options = asdict(self.transcode)
        if not self.transcode.reencodes:
            # Files stored unchanged keep their audio track anyway.
            del options["keep_audio"]
        return {**options, "num_shards": len(self.shards), "seed": self.seed}

    @functools.cached_property
    def media(self) -> dict[str, Modality]:
        """Modality of each medium of a sample by name, the main one first."""
        return {name: modality_named(modality) for name, (modality, _) in self.shards[0][0].media.items()}

    @functools.cached_property
    def hash(self) -> str:
        """Hash of the shards' content, independent of where the input is mounted."""
        rows = [[(r.clip_id, r.label, r.caption) for r in shard] for shard in self.shards]
        content = json.dumps([self.split, self.class_names, self.options, rows], sort_keys=True)
        several = [[r.captions for r in shard] for shard in self.shards]
        if any(captions for shard in several for captions in shard):
            content += json.dumps(several)
        if others := list(self.media)[1:]:
            content += json.dumps(others)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def features(self) -> Features:
        """The columns of the shards as `datasets` types."""
        main, *others = self.media
        features: dict[str, Any] = {main: _FEATURES[self.media[main].feature]()}
        if self.class_names is not None:
            label = ClassLabel(names=list(self.class_names))
            features["label"] = label if isinstance(self.shards[0][0].label, str) else List(label)
        if any(record.caption is not None for shard in self.shards for record in shard):
            features["caption"] = Value("string")
        if any(record.captions for shard in self.shards for record in shard):
            features["captions"] = List(Value("string"))
        features |= {"clip_id": Value("string"), "sha256": Value("string")}
        features |= {name: Value(kind) for name, kind in FACTS.get(self.media[main].name, {}).items()}
        for name in others:
            features |= {name: _FEATURES[self.media[name].feature](), f"{name}_sha256": Value("string")}
        return Features(features)

    def file_name(self, index: int) -> str:
        """File name of shard `index` in the Hub's convention."""
        return f"{self.split}-{index:05d}-of-{len(self.shards):05d}.parquet"

    def summary(self) -> dict[str, Any]:
        """Content of each shard's footer, except its bad files."""
        versions = {name: importlib.metadata.version(name) for name in ("tubelets", "datasets")}
        return {
            "plan": self.hash,
            "options": self.options,
            "class_names": None if self.class_names is None else list(self.class_names),
            "versions": {**versions, "av": av.__version__},
        }


def parse_size(size: int | str) -> int:
    """Parse a size in bytes.

    Args:
        size: A number, or a string such as "256MB" (powers of 1000) or "256MiB" (powers of 1024).

    Raises:
        ValueError: The string is not a size, or the size is not positive.

    Example:
        >>> parse_size("256MB"), parse_size("1 KiB")
        (256000000, 1024)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(size).strip())
    if match is None or match[2].upper() not in _SIZE_UNITS or not float(match[1]) > 0:
        raise ValueError(f"{size!r} is not a size; write a positive number of bytes such as 256000000, 256MB or 1GiB")
    return max(1, int(float(match[1]) * _SIZE_UNITS[match[2].upper()]))


def _check_plan_input(
    records: Sequence[VideoRecord], split: str, class_names: Sequence[str] | None, clips_per_shard: int | None
) -> None:
    """Reject invalid input."""
    if not records:
        raise ValueError("the list of records is empty; give at least one video")
    if not re.fullmatch(r"[\w.]+", split):
        raise ValueError(f"split={split!r} must consist of letters, digits, '_' and '.'")
    if clips_per_shard is not None and clips_per_shard < 1:
        raise ValueError(f"clips_per_shard={clips_per_shard} must be at least 1")
    check_unique_ids(records)
    unknown = {name for record in records for name in record.label_names} - set(class_names or ())
    if unknown:
        raise ValueError(
            f"labels {sorted(unknown)[:5]} are not in class_names; pass the result of find_class_names(records)"
        )
    kinds = {type(record.label) for record in records}
    if len(kinds) > 1:
        raise ValueError(
            f"labels have mixed types {sorted(kind.__name__ for kind in kinds)}; give every clip one name, every clip "
            "a tuple of names, or no clip a label"
        )


def _check_kinds(records: Sequence[VideoRecord], transcode: TranscodeOptions) -> None:
    """Reject records with different media, and re-encoding of audio."""
    sounds = [record for record in records if record.is_audio]
    if sounds and len(sounds) < len(records):
        raise ValueError(
            f"{len(sounds)} of {len(records)} files are audio, for example {sounds[0].clip_id!r}; shards hold one "
            "kind: build the others in another folder"
        )
    names = list(records[0].media)
    for record in records:
        if list(record.media) != names:
            raise ValueError(
                f"clip {record.clip_id!r} has the media {list(record.media)} and {records[0].clip_id!r} has {names}; "
                "give every clip the same media, or build them in another folder"
            )
    if sounds and transcode.reencodes:
        raise ValueError("short_side, fps and keyframe_interval apply to videos only; audio files are stored unchanged")


def _file_size(path: Path) -> int:
    """Size in bytes; 0 for a missing file, reported when its shard is written."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
