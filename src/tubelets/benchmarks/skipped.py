"""Sources of a benchmark that cannot be read: skipped, counted and named."""

import warnings
from collections.abc import Mapping
from dataclasses import replace

from tubelets.data.build.shards import ShardReport
from tubelets.data.modalities.video import BadVideoError


def warn_of_skipped(reasons: Mapping[str, str], num_sources: int, kind: str) -> None:
    """Name the sources that were skipped.

    Args:
        reasons: why, by name of the source; nothing happens if it is empty.
        num_sources: all sources.
        kind: what a source is, in the plural.

    Raises:
        BadVideoError: every source was skipped.

    Example:
        >>> warn_of_skipped({}, 3, "source videos")
    """
    if not reasons:
        return
    listed = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    if len(reasons) == num_sources:
        raise BadVideoError(f"none of the {num_sources} {kind} can be read: {listed}")
    warnings.warn(f"{len(reasons)} of {num_sources} {kind} cannot be read and are skipped: {listed}", stacklevel=2)


def with_reasons(report: ShardReport, reasons: Mapping[str, str]) -> ShardReport:
    """Let the clips that a skipped source should have given state its reason, instead of their missing file.

    Args:
        report: the report of the shards.
        reasons: why, by id of the clip.

    Returns:
        The report, changed in place.
    """
    report.bad_files = [replace(bad, reason=reasons.get(bad.clip_id, bad.reason)) for bad in report.bad_files]
    return report
