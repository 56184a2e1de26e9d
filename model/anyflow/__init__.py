"""What AnyFlow adds to a Wan model: a step's target level, and an older past in coarse patches."""
