"""ComfyUI's workflows: their nodes, reading and writing them, and running them without ComfyUI."""
