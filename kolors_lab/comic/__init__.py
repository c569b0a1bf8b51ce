"""A story in pictures: script, panels, casting, page."""
