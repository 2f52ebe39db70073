"""`python -m aldvae` is `aldvae`."""

from aldvae.cli.commands import main

# Worker processes import this module again.
if __name__ == "__main__":
    main()
