"""Base class of the package's models: `from_pretrained` goes through the one loader."""

import importlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tubelets.models.common.safe_loading import load_pretrained

# From the card that transformers writes where a repository has none.
_BLANK_CARD = "This model card has been automatically generated."


class SafePreTrainedModel(PreTrainedModel):
    """A `transformers.PreTrainedModel` that reads safetensors only and never starts with an encoder of random weights.

    Example:
        >>> import tubelets
        >>> issubclass(tubelets.SigmaModel, SafePreTrainedModel)
        True
    """

    config: Any

    def post_init(self) -> None:
        """Finish construction as `transformers.PreTrainedModel.post_init` does.

        `_no_split_modules` is reduced to the classes that the model has: accelerate's FSDP raises for any other.
        """
        super().post_init()
        present = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = {name for name in self._no_split_modules or () if name in present}

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as `transformers.PreTrainedModel.save_pretrained` does.

        Args:
            save_directory: folder to write.
            *args: passed on.
            **kwargs: passed on.

        Raises:
            ValueError: with `as_videomae=True`, which only models of the masked-video family understand.
        """
        if kwargs.pop("as_videomae", False):
            raise ValueError(
                f"as_videomae=True writes video transformers, and {type(self).__name__} is none; save it without, or "
                "export it with export_onnx to use it without this package"
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    def adopt_positions(self, stored: Any) -> None:
        """Fit computed positions to those that the weights were trained with; called when weights were loaded.

        Models without positions, or that save theirs, have nothing to do.

        Args:
            stored: the configuration that was saved with the weights.
        """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a saved model as `transformers.PreTrainedModel.from_pretrained` does.

        Args:
            pretrained_model_name_or_path: a folder or a Hub id.
            *model_args: passed on.
            **kwargs: passed on.

        Returns:
            The model, and a report with `output_loading_info=True`.

        Raises:
            tubelets.models.common.errors.UnsafeCheckpointError: if the weights are pickled or files lead elsewhere.
            tubelets.models.common.errors.CheckpointLayoutError: if files are corrupt, shapes do not fit (another
                number of labels needs `ignore_mismatched_sizes=True`), weights of the encoder are missing or left over,
                or the checkpoint is another method's.
            OSError: if there is no checkpoint.
        """
        return load_pretrained(super().from_pretrained, cls, pretrained_model_name_or_path, *model_args, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: the code is an installed package and is never copied next to a checkpoint."""

    def _upload_modified_files(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """Replace the blank card of transformers by ours before `push_to_hub` commits; other cards are kept."""
        card = Path(working_dir) / "README.md"
        if card.is_file() and _BLANK_CARD in card.read_text(encoding="utf-8"):
            # Cards describe models and therefore lie above them; only this method of transformers reaches up.
            cards = importlib.import_module("tubelets.hub.cards")
            card.write_text(cards.render_model_card(repo_id, self.config), encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)
