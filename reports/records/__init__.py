"""What run folders hold: the one definition, for the harness that writes them and the reports that read them."""
