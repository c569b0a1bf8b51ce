"""Which model, where its files lie, and how it comes into memory."""
