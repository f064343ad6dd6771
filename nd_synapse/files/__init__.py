"""Local files: one reader and one writer a format."""
