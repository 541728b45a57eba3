"""HTTP: an images API that OpenAI's clients speak, the dashboard, health and metrics."""
