"""A predictor that was fitted to a profile: what it knows, and how it answers, in numpy alone."""
