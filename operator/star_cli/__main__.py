"""`python -m star_cli` is `starctl`."""

from star_cli.main import main

if __name__ == "__main__":
    main()
