"""The approximate cache: an index of prompts and a store of their states after K steps."""
