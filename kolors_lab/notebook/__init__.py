"""Widgets for notebooks; beside each stands a plain call."""
