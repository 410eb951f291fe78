"""Working with dead letters, from the letters topic alone."""
