"""How the embedded models are trained on the little world, one file a model."""
