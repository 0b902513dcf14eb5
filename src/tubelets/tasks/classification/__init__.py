"""Classification of videos, audio or skeletons, single-label or multi-label."""

from tubelets.tasks.classification.audio import AUDIO_CLASSIFICATION
from tubelets.tasks.classification.skeleton import SKELETON_CLASSIFICATION
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION
from tubelets.tasks.registry import register_task

# Audio-visual models are in both Auto classes; the audio task provides their audio and frames.
register_task(AUDIO_CLASSIFICATION)
register_task(VIDEO_CLASSIFICATION)
register_task(SKELETON_CLASSIFICATION)
