"""Training a LoRA or a word: the loop, what it minimises, what moves the weights, and what is kept."""
