"""`python -m star_cli.images`."""

from star_cli.images.cli import main

main()
