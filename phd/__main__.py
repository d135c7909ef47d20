"""`python -m phd` is `phd`."""

from phd.cli import main

main()
