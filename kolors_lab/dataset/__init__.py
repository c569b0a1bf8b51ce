"""Pictures with captions: reading, cleaning, rewriting, augmenting, and several sets as one."""
