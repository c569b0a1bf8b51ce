"""From a prompt to a picture: text, noise levels, samplers, latents, and the settings inside a PNG."""
