"""What every room needs and what knows none of them: errors, files, pictures, fonts, figures, statistics."""
