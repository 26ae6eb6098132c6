"""`python -m adsum.cli`."""

from adsum.cli import main

main()
