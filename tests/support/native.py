"""Our networks around a reference's weights, by the same path that a file takes."""

from comfyui_cascade.checkpoints.layout import shapes, to_native
from comfyui_cascade.checkpoints.open import build


def native(network_class, config_class, reference, **recorded):
    """Our network with the weights and, where shapes cannot tell, the ``cascade.*`` entries of a file."""
    weights = to_native(reference.state_dict())
    metadata = {f"cascade.{name}": str(value) for name, value in recorded.items()}
    return build(network_class, config_class.from_shapes(shapes(weights), metadata), weights)
