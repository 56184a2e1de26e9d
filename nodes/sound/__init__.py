"""Sound that drives a shot."""
