"""The words of a prompt: their syntax, and the formula that makes them up."""
