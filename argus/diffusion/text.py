"""What the text encoders of all families share."""

from __future__ import annotations

from typing import Any


def truncated_words(tokenizer: Any, text: str, length: int | None = None) -> str:
    """Return the part of `text` that does not fit into `length` tokens, or ''.

    Args:
        tokenizer: a CLIP or T5 tokenizer; both end a text with one token of their own.
        text: the prompt.
        length: in tokens; None for the tokenizer's own.
    """
    limit = int(tokenizer.model_max_length) if length is None else length
    ids = tokenizer(text, padding="longest", return_tensors="pt").input_ids
    if ids.shape[-1] <= limit:
        return ""
    return str(tokenizer.decode(ids[0, limit - 1 : -1], skip_special_tokens=True))
