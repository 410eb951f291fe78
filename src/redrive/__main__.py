"""`python -m redrive`: the command line."""

from redrive.cli import main

main()
