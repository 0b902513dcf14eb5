"""The task of a model, from its configuration."""

from transformers import PreTrainedConfig

from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.registry import all_tasks, task_named
from tubelets.tasks.task import Task


def classification_task(config: PreTrainedConfig) -> Task:
    """The task of a classifier with these inputs: that of audio or skeletons if they are these alone, else of video."""
    modalities = {spec.modality for spec in model_inputs(config).values()}
    alone = next(iter(modalities)) if len(modalities) == 1 else "video"
    return task_named(f"{alone if alone in ('audio', 'skeleton') else 'video'}-classification")


def task_of(config: PreTrainedConfig) -> Task | None:
    """The task of the model that a `config.json` names, None for an encoder or a pretraining network.

    Args:
        config: a configuration with `architectures`.

    Example:
        >>> from tubelets import SigmaConfig
        >>> task_of(SigmaConfig(architectures=["SigmaForVideoClassification"])).name
        'video-classification'
        >>> task_of(SigmaConfig(architectures=["SigmaForPreTraining"]))
        >>> from tubelets import VideoTextDualEncoderConfig
        >>> task_of(VideoTextDualEncoderConfig(architectures=["VideoTextDualEncoderModel"])).name
        'video-text-retrieval'
    """
    name = str((config.architectures or [""])[0])
    if name.endswith("Classification"):
        return classification_task(config)
    others = (task for task in all_tasks().values() if not task.has_classes and task.accepts(config))
    return next((task for task in others if task.model_class._model_mapping[type(config)].__name__ == name), None)
