"""Where evaluation computes."""

import torch


def evaluation_device() -> torch.device:
    """The accelerator of this machine, or the CPU if it has none.

    Example:
        >>> evaluation_device().type == "cpu" or torch.accelerator.is_available()
        True
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
