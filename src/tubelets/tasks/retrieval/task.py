"""The record of video-text retrieval."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers import AutoProcessor, PreTrainedConfig

from tubelets.models.common.auto import inference_processor
from tubelets.models.common.inputs import model_inputs
from tubelets.models.heads.video_text.processing_video_text import VideoTextProcessor
from tubelets.tasks.retrieval.arguments import RetrievalDataArguments
from tubelets.tasks.retrieval.data import RetrievalData
from tubelets.tasks.retrieval.scores import METRICS
from tubelets.tasks.task import Task


def video_text_processor(config: PreTrainedConfig, stored: Callable[[Any], Any]) -> Any:
    """Return the processor to save with a model of videos and texts.

    Args:
        config: the model's configuration.
        stored: loads the processor stored with the weights by an Auto class; returns None if absent.

    Returns:
        The stored one, or one built from the configuration, which names its tokenizer.

    Raises:
        ValueError: if there is no stored one and the configuration names no tokenizer.
    """
    processor = stored(AutoProcessor) or inference_processor(config)
    if isinstance(processor, VideoTextProcessor):
        # A recipe may ask for longer texts than those that the checkpoint was trained on.
        processor.max_length = model_inputs(config)["input_ids"].shape[0]
    return processor


def model_loss(config: PreTrainedConfig, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss that the model computed of its pairs: its own, because dual and fusion encoders have different ones."""
    return output.loss


def describe_test(data: Mapping[str, Any]) -> str:
    """The final test in a few words, from the data arguments of a run.

    Example:
        >>> describe_test({"test_clips": 4, "dual_softmax": 0.1})
        '4 clips, dual softmax over all queries'
    """
    clips = "one clip" if data["test_clips"] == 1 else f"{data['test_clips']} clips"
    return clips if data.get("dual_softmax") is None else f"{clips}, dual softmax over all queries"


VIDEO_TEXT_RETRIEVAL = Task(
    name="video-text-retrieval",
    auto_class="AutoModelForVideoTextRetrieval",
    primary_metric="text_to_video_r1",
    arguments=RetrievalDataArguments,
    data=RetrievalData,
    processor=video_text_processor,
    loss=model_loss,
    protocol=describe_test,
    metrics=METRICS,
    targets=(),
    has_classes=False,
    hub_tag="feature-extraction",
)
