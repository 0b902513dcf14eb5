"""Models of videos and texts in evaluation: the video side as a backbone, retrieval and zero-shot classification."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tubelets.data.modalities.specs import TextSpec, specs_of
from tubelets.data.sources.opening import open_source
from tubelets.evaluation.devices import evaluation_device
from tubelets.evaluation.features import extract_features
from tubelets.evaluation.inputs import processor_inputs
from tubelets.models.common.auto_classes import AutoModelForVideoTextRetrieval
from tubelets.models.common.backbone import Backbone
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import load_config, load_model, load_processor
from tubelets.models.common.video_text import TEMPLATES, as_video_text, class_embeddings, embed_texts
from tubelets.tasks.metrics import mean_class_accuracy, top_k_accuracy
from tubelets.tasks.retrieval.arguments import RetrievalDataArguments
from tubelets.tasks.retrieval.data import RetrievalData


class JointSpaceBackbone(Backbone):
    """The video side of a model of videos and texts, whose pooled feature is what texts are compared with.

    Args:
        model: of videos and texts.

    Raises:
        TypeError: if it does not embed texts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = as_video_text(model)
        self.config = self.model.config
        self._width: int | None = None

    @property
    def feature_size(self) -> int:
        """Width of the common space."""
        if self._width is None:
            device = next(self.model.parameters()).device
            with torch.no_grad():
                self._width = self.model.get_text_features(torch.ones(1, 2, dtype=torch.long, device=device)).shape[1]
        return self._width

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Embed videos: one token, which is also the pooled feature `(B, D)`."""
        features = self.model.get_video_features(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=features[:, None], pooler_output=features)


def reads_text(config: PreTrainedConfig) -> bool:
    """Whether a model declares a text among its inputs.

    Example:
        >>> from tubelets import SigmaConfig, VideoTextDualEncoderConfig
        >>> reads_text(VideoTextDualEncoderConfig()), reads_text(SigmaConfig())
        (True, False)
    """
    return bool(specs_of(model_inputs(config), TextSpec))


def load_joint_space(checkpoint: str | Path) -> tuple[Any, Any]:
    """A model of videos and texts on the machine's accelerator, if it has one, and its processor.

    Args:
        checkpoint: folder or Hub id.

    Raises:
        TypeError: if the model does not embed texts.
        ValueError: if it is of another kind.
        OSError: if it is not found.
    """
    if not reads_text(load_config(checkpoint)):
        raise TypeError(f"{checkpoint} does not read texts; give a model of videos and texts, such as a dual encoder")
    model = load_model(AutoModelForVideoTextRetrieval, checkpoint).to(evaluation_device())
    return as_video_text(model), load_processor(checkpoint)


def load_backbone(checkpoint: str | Path) -> Any:
    """An encoder on the machine's accelerator; of a model of videos and texts the side of the videos.

    Args:
        checkpoint: folder or Hub id.

    Raises:
        OSError: if it is not found.
    """
    if reads_text(load_config(checkpoint)):
        return JointSpaceBackbone(load_joint_space(checkpoint)[0])
    return load_model(AutoModel, checkpoint).to(evaluation_device())


def evaluate_retrieval(
    checkpoint: str | Path,
    data: str | Path,
    output_dir: str | Path,
    *,
    split: str = "test",
    batch_size: int = 16,
    num_workers: int = 0,
    precision: torch.dtype = torch.float32,
    **fields: Any,
) -> dict[str, float]:
    """Measure retrieval in both directions on videos with captions, without training.

    Args:
        checkpoint: folder or Hub id of a model of videos and texts.
        data: videos with a column `caption`, or `captions` with several of each.
        output_dir: gets `retrieval.json`, `retrieval_ranks.csv` and `recall.png`.
        split: name of the split.
        batch_size: clips in a forward pass.
        num_workers: decoding processes.
        precision: type of the forward pass (autocast); float32 or bfloat16.
        **fields: of `RetrievalDataArguments`, such as `test_sampling`, `dual_softmax` and `rerank`.

    Returns:
        The numbers of `tubelets.tasks.retrieval.scores.RetrievalScores.metrics`.

    Raises:
        TypeError: if the model does not embed texts.
        ValueError: if the data have no captions.
    """
    model, processor = load_joint_space(checkpoint)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    args = TrainingArguments(
        output_dir=str(folder),
        do_eval=True,
        per_device_eval_batch_size=batch_size,
        dataloader_num_workers=num_workers,
        use_cpu=evaluation_device().type == "cpu",
        report_to=[],
    )
    arguments = RetrievalDataArguments(dataset_name=str(data), validation_split=split, test_split=split, **fields)
    found = RetrievalData(arguments, args)
    found.bind(model.config, processor)
    with torch.autocast(evaluation_device().type, precision, enabled=precision != torch.float32):
        scores = found.score(model, "test")
    scores.save_report(folder, Path(data).name)
    return scores.metrics()


def evaluate_zero_shot(
    checkpoint: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    templates: tuple[str, ...] = TEMPLATES,
    sampling: Any = "uniform",
    stride: int = 4,
    **options: Any,
) -> dict[str, float]:
    """Classify videos by prompts with the names of their classes, without training.

    Args:
        checkpoint: folder or Hub id of a model of videos and texts.
        data: labelled videos whose classes have names.
        split: name of the split.
        templates: prompts with `{}` where a name goes.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.
        **options: further arguments of `tubelets.evaluation.features.extract_features`.

    Returns:
        `top_1`, `top_5` and `mean_class_accuracy`, fractions; `chance`, one over the number of classes; `num_videos`.

    Raises:
        TypeError: if the model does not embed texts.
        ValueError: if the data have no labels, or their classes no names.
    """
    model, processor = load_joint_space(checkpoint)
    inputs = processor_inputs(processor, model.config, sampling=sampling, stride=stride)
    found = extract_features(JointSpaceBackbone(model), open_source(data, split=split), inputs, **options)
    if found.class_names is None:
        raise ValueError(f"the classes of {data} have no names to write prompts with; name them in the data")
    classes = class_embeddings(model, processor, found.class_names, templates)
    scores = F.normalize(found.features, dim=1) @ classes.T
    return {
        "top_1": top_k_accuracy(scores, found.labels, 1),
        "top_5": top_k_accuracy(scores, found.labels, 5),
        "mean_class_accuracy": mean_class_accuracy(scores, found.labels),
        "chance": 1 / len(found.class_names),
        "num_videos": float(len(found.labels)),
    }


def text_features(checkpoint: str | Path, texts: list[str]) -> Tensor:
    """Embeddings `(texts, D)` of sentences by the text side of a checkpoint."""
    model, processor = load_joint_space(checkpoint)
    return embed_texts(model, processor, texts)
