"""A history whose older latent frames have a quarter of the tokens."""
