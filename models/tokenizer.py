"""A CLIP tokenizer whose vocabulary is the words of the captions, with bytes to fall back on."""

from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from .captions import RELATIONS
from .scenes import BACKGROUNDS, COLOURS, SIZES
from .shapes import SHAPES

LENGTH = 24
START, END = "<|startoftext|>", "<|endoftext|>"

_OTHER_WORDS = (
    "a an the one two three and or of on in to at with is are there this that it its picture "
    "image drawing photo background shape shapes crosses left right top over above below "
    "under underneath big little grey tiny huge next beside near between behind center middle "
    "side color colour box dot disc plus star heart line white brown cyan dark light bright "
)


def words() -> list[str]:
    """Every word that is one token, most basic first."""
    known = [*SHAPES, *(s + "s" for s in SHAPES), *COLOURS, *BACKGROUNDS, *SIZES]
    known += [w for phrase in RELATIONS for w in phrase.split()]
    known += _OTHER_WORDS.split()
    return list(dict.fromkeys(known))


def _merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that fuse each word to one token.

    Later merges rank lower, and an earlier word always has one of its own left to apply, so
    adding a word never breaks one before it.
    """
    merges: list[tuple[str, str]] = []
    for word in vocabulary:
        parts = [*word[:-1], word[-1] + "</w>"]
        for left, right in merges:
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == (left, right):
                    parts[i : i + 2] = [left + right]
                i += 1
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    return merges


def build_tokenizer() -> CLIPTokenizer:
    """Return the tokenizer; any text tokenizes, unknown words as their bytes."""
    symbols = sorted(ByteLevel.alphabet())
    merges = _merges(words())
    tokens = [*symbols, *(s + "</w>" for s in symbols)]
    tokens += dict.fromkeys(left + right for left, right in merges)
    vocabulary = {t: i for i, t in enumerate([*dict.fromkeys(tokens), START, END])}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]
        model_max_length=LENGTH,
    )


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer as a transformers folder, with the classic two files beside it."""
    build_tokenizer().save_pretrained(folder)
