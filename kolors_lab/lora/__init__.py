"""LoRAs: on the UNet, in their many file formats, in a prompt's tags, and mixed."""
