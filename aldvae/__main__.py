"""`python -m aldvae` is `aldvae`."""

from aldvae.cli import main

main()
