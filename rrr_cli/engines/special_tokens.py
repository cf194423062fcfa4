"""Special tokens and text that spells one: text stays text in a prompt, and marks that a model writes survive decoding.

The rule. A special token that opens or closes a call or a thought (`MARKS`) is a word of the model's: it is decoded as
text, and in the model's own turns it is encoded as the token that it was. Every other special token (begin, end, turn,
role) belongs to the chat template alone: it is left out of what a model wrote, and where words spell it, in anyone's
turn, it is encoded as those words, never as the token. So are marks in the turns of others. Added tokens that aren't
special are vocabulary like any other. Pure; reads and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

MARKS = re.compile(
    r"call|arg|func|python|think|thought|reason|inner|channel|message|recipient|content|constrain|action|plugin|"
    r'tool.?(sep|result|response)|escape|<\|"\|>', re.I)
BETWEEN_CHANNELS = ("<|start|>", "<|end|>")  # within a turn of gpt-oss's, whose messages they divide


def special_tokens(tokenizer: Any) -> Mapping[str, int]:
    """Text -> id of every special token."""
    return _tokens(tokenizer, len(tokenizer))[0]


def kept_in_text(tokenizer: Any) -> Set[int]:
    """The special tokens that are part of what a model says: marks of a call or a thought."""
    return _tokens(tokenizer, len(tokenizer))[1]


@lru_cache(maxsize=32)  # each prompt and each answer asks, and some vocabularies have thousands of added tokens
def _tokens(tokenizer: Any, size: int) -> tuple[Mapping[str, int], Set[int]]:
    """Both of the above, of a tokenizer of `size` tokens: more may be added to it later."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    specials = {token.content: i for i, token in added.items() if token.special} | dict(named)
    control = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    between = BETWEEN_CHANNELS if "<|channel|>" in specials else ()
    return specials, {i for text, i in specials.items() if MARKS.search(text) or text in between} - control


class Spelled:
    """The special tokens that the texts of one chat spell, taken out of them: each is a placeholder of private-use
    characters while the chat template works, and is encoded as text by `ids`."""

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        self.tokenizer, self.specials = tokenizer, special_tokens(tokenizer)
        self.kept = kept_in_text(tokenizer)
        whole = "\0".join(texts)
        self.present = sorted((text for text in self.specials if text in whole), key=len, reverse=True)
        self.edge = next(c for c in map(chr, range(0xE000, 0xF900)) if c not in whole)
        self.strings: list[str] = []

    def hide(self, text: str, own: bool = False) -> str:
        """The text with placeholders. `own`: a turn of the model, whose marks stay the tokens that they are."""
        hidden = [string for string in self.present if not (own and self.specials[string] in self.kept)]
        return re.sub("|".join(map(re.escape, hidden)), self._placeholder, text) if hidden else text

    def _placeholder(self, match: re.Match[str]) -> str:
        self.strings.append(match[0])
        return f"{self.edge}{len(self.strings) - 1}{self.edge}"

    def ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The tokens of a text with placeholders: as of the whole text, but for the special tokens that it spells."""
        if not self.strings:
            return list(self.tokenizer(text, add_special_tokens=add_special_tokens).input_ids)
        pieces = re.split(f"{self.edge}([0-9]+){self.edge}", text)
        if not self.tokenizer.is_fast:  # it can't say which characters a token is of
            words = [self._as_text(self.strings[int(piece)]) for piece in pieces[1::2]]
            rest = [list(self.tokenizer(p, add_special_tokens=add_special_tokens and i == 0).input_ids)
                    for i, p in enumerate(pieces[::2])]
            return [token for pair in zip(rest, [*words, []], strict=True) for part in pair for token in part]
        whole, spans = "", []
        for i, piece in enumerate(pieces):
            string = self.strings[int(piece)] if i % 2 else piece
            spans += [(len(whole), len(whole) + len(string))] if i % 2 else []
            whole += string
        encoded = self.tokenizer(whole, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
        special = set(self.specials.values())
        ids: list[int] = []
        for token, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
            spelled = token in special and any(start < last and first < end for first, last in spans)
            ids += self._as_text(whole[start:end]) if spelled else [token]
        return ids

    def _as_text(self, string: str) -> list[int]:
        """The tokens of its letters; none of them special but the unknown one, whatever the vocabulary holds."""
        special = set(self.specials.values()) - {self.tokenizer.unk_token_id}
        ids = self.tokenizer(string, add_special_tokens=False, split_special_tokens=True).input_ids
        if special.isdisjoint(ids):
            return list(ids)
        letters = [i for c in string for i in self.tokenizer(c, add_special_tokens=False).input_ids]
        return [i for i in letters if i not in special]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """What a model wrote as text: with marks of a call or a thought, without any other special token."""
    kept = kept_in_text(tokenizer)
    if kept.isdisjoint(ids):
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    dropped = set(special_tokens(tokenizer).values()) - kept
    words = [i for i in ids if i not in dropped]
    return str(tokenizer.decode(words, skip_special_tokens=False, clean_up_tokenization_spaces=False))
