"""Classification of videos or sounds, with one label a clip or several."""

from tubelets.tasks.classification.audio import AUDIO_CLASSIFICATION
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION
from tubelets.tasks.registry import register_task

# Audio-visual models have a classifier under both Auto classes; audio classification reads their sound and frames.
register_task(AUDIO_CLASSIFICATION)
register_task(VIDEO_CLASSIFICATION)
