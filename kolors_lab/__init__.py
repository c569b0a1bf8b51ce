"""A course and a small library: clean pictures, train a LoRA on Kolors, tell a story in eight panels, score it.

Importing this package imports nothing heavy; each module says what it is for in its first lines.
"""

__version__ = "0.1.0"
