"""The device that an evaluation runs on."""

import torch

from schemas.errors import UserError, first_line


def device_of(name: str) -> torch.device:
    """Returns the device that the configuration's `device` names. Raises UserError if torch cannot use it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        # Read back, because the device `meta` has no values.
        torch.zeros(1, device=device).item()
    except Exception as error:  # A driver may raise anything.
        raise UserError(
            f"device: {name!r} cannot be used ({first_line(error)}); give auto, cpu, or another device of torch"
        ) from None
    return device


def device_title(device: torch.device) -> str:
    """Returns the name of a device for readers; for a GPU also its product name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
