"""What the little world looks like and how it is put into words; nothing here is trained."""
