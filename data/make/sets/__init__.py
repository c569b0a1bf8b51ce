"""The sets and the font that the course ships, drawn or cut from the same world."""
