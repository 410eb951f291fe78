"""Dead letters: the record of a run that was given up."""
