"""Retrieval of videos by text and of texts by video."""

from tubelets.tasks.registry import register_task
from tubelets.tasks.retrieval.task import VIDEO_TEXT_RETRIEVAL

register_task(VIDEO_TEXT_RETRIEVAL)
