"""From settings to files: one picture, a grid of pictures, each with the workflow that drew it inside."""
