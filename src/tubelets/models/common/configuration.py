"""Base of every configuration: rejects crafted content and registers its models with the Auto classes."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.errors import StrictDataclassFieldValidationError

from tubelets.data.modalities.specs import InputSpec
from tubelets.models.common.field_checks import MAX_LABELS, RANGES, check_fields


class RegisteredConfig:
    """Mixin of the configurations; list it before the configuration class of transformers."""

    model_type: str
    field_ranges: ClassVar[Mapping[str, tuple[float, float]]] = RANGES
    """Smallest and largest value of numeric fields; other numbers may not be negative, unless their default is."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Check the arguments before the fields are set, because types of long lists take seconds to check.

        Args:
            *args: fields by position.
            **kwargs: fields by name.

        Raises:
            huggingface_hub.errors.StrictDataclassError: if a field is unknown or out of bounds.
        """
        if args or kwargs:
            names = (entry.name for entry in dataclasses.fields(cls))  # type: ignore[arg-type]
            check_fields(cls, {**dict(zip(names, args, strict=False)), **kwargs})
        return super().__new__(cls)

    if TYPE_CHECKING:

        @property
        def input_specs(self) -> dict[str, InputSpec]:
            """Inputs of the model: argument of `forward` to spec."""

    @property
    def retrieval_specs(self) -> dict[str, InputSpec]:
        """Inputs of videos and of texts; those of inference unless texts are optional there."""
        return self.input_specs

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Inputs of the pretraining collator, by name; by default those of the model."""
        return self.input_specs

    @property
    def card_rows(self) -> dict[str, str]:
        """Rows of a card's table beside sizes and inputs; `started from` is for a run that names no checkpoint."""
        return {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Reject a configuration class that does not declare the inputs of its model."""
        super().__init_subclass__(**kwargs)
        if not isinstance(inspect.getattr_static(cls, "input_specs", None), property):
            raise TypeError(f"{cls.__name__} must define the property `input_specs`, see `InputSpec`")

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the number of labels and register the models of this type with the Auto classes.

        Args:
            **kwargs: fields of `transformers.PreTrainedConfig`.

        Raises:
            huggingface_hub.errors.StrictDataclassError: if the number of labels is out of range.
        """
        # Imported here because the table of model types names the modules of the configurations.
        from tubelets.models.common.auto import register_type

        # Checked first, because the base class creates a name for each label.
        labels = kwargs.get("num_labels")
        if labels is not None and not (isinstance(labels, int) and 0 <= labels <= MAX_LABELS):
            cause = ValueError(f"num_labels must be an integer in [0, {MAX_LABELS}], got {labels!r}")
            raise StrictDataclassFieldValidationError(field="num_labels", cause=cause)
        super().__post_init__(**kwargs)  # type: ignore[misc]
        register_type(type(self))  # type: ignore[arg-type]

    @classmethod
    def accepted_model_types(cls) -> set[str]:
        """Model types whose `config.json` this class reads: its own, unless a family exchanges encoders."""
        return {cls.model_type}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build the configuration from the content of a `config.json`, as `from_pretrained` does.

        Args:
            config_dict: the content.
            **kwargs: fields that replace it, and `return_unused_kwargs`.

        Returns:
            The configuration and, if requested, the unused keywords.

        Raises:
            tubelets.models.common.errors.CheckpointLayoutError: if the content is another method's.
            tubelets.models.common.errors.UnsafeCheckpointError: if it overwrites more than fields.
            huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.
        """
        from tubelets.models.common.file_checks import check_config_file

        check_config_file(config_dict, cls, cls.accepted_model_types())
        # Otherwise the object would keep the type of the file, and names of weights be mapped as that type's.
        return super().from_dict({**config_dict, "model_type": cls.model_type}, **kwargs)  # type: ignore[misc]
