"""What changes a stage after it is loaded: LoRAs, ControlNets and image prompts, from file to tensors."""
