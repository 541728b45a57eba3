"""From a profile to a predictor: fitted, chosen, calibrated and judged on prompts held out."""
