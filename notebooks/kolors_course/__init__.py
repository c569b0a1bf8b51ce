"""The course's own tools: checks of its exercises, copies of its notebooks in one language."""
