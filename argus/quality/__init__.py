"""What an approximation costs, prompt by prompt: measured, scored, learned."""
