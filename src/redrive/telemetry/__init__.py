"""What redrive tells about itself; knows nothing of the rest."""
