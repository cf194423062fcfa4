"""The values that leave the sandbox: a closed set, as trees of JSON, [type, content, …]. `encode` and `decode` them.

The sandbox gets this file's text, so it imports the standard library alone. `encode` runs beside model-written code. It
reads a value with the methods of the built-in type that it is, or derives from, never with methods of its own class:
an `int` with an `__eq__` that is always true is a plain number. `decode` makes real values of the standard library,
so that Python's own `==` decides: a named tuple equals a tuple, a `Fraction` a float, `dict_keys` a set. Enum members,
dataclass objects, types and the like become `Tagged`; everything else `Other`, which equals nothing.

`decode` takes hostile trees. It refuses (ValueError and the like) what isn't such a tree, and numbers that would take
long to build or to search.
"""

import array
import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MAX_SIZE, NODE_SIZE = 65_536, 16  # bytes of trees, roughly; what a value adds to its content
MAX_DEPTH, MAX_BITS, MAX_RANGE = 40, 200_000, 1_000_000
MICROSECOND = datetime.timedelta(microseconds=1)
MRO = type.__dict__["__mro__"]  # asked so that no metaclass answers
#: Types whose values are equal where their texts are.
TEXTS = ("uuid.UUID", "pathlib.PosixPath", "pathlib.PurePosixPath", *(
    f"ipaddress.IPv{version}{kind}" for version in (4, 6) for kind in ("Address", "Interface", "Network")))
CONSTANTS = {"None": None, "True": True, "False": False, "Ellipsis": ..., "NotImplemented": NotImplemented}


class TooLong(Exception):
    """A value that is too large to send."""


@dataclasses.dataclass(frozen=True, eq=False)
class Other:
    """Stands for a value outside the closed set. Equal to nothing else."""

    type_name: str

    def __repr__(self) -> str:
        return f"<{self.type_name} object>"


@dataclasses.dataclass(frozen=True)
class Tagged:
    """Stands for a value that is equal to one of the same type and content alone."""

    kind: str
    type_name: str
    content: Any

    def __repr__(self) -> str:
        name = self.type_name.removeprefix("answer.")
        if self.kind == "enum":
            return f"{name}.{self.content}"
        if self.kind == "type":
            return f"<class {name!r}>"
        if self.kind == "text":
            return f"{name}({self.content!r})"
        shown = [f"{field}={value!r}" for field, value in self.content]
        return f"{name}({', '.join(shown)})"


class Encoder:
    """Makes trees of values, up to a limit on all of them together."""

    def __init__(self) -> None:
        self.size, self.depth = MAX_SIZE, 0

    def tree(self, value: Any) -> list[Any]:
        """The tree of `value`. Raises TooLong."""
        self._spend(NODE_SIZE)
        for kind in MRO.__get__(type(value)):
            if kind in PLAIN:
                name, parts = PLAIN[kind]
                found = parts(value)
                self._spend(sum(len(ascii(part)) for part in found))
                return [name, *found]
            if kind in NESTED:
                name, parts = NESTED[kind]
                self.depth += 1
                found = [self.tree(part) for part in parts(value)]
                self.depth -= 1
                return [name, *found]
        return special(value, self.tree)

    def _spend(self, size: int) -> None:
        self.size -= size
        if self.size < 0 or self.depth > MAX_DEPTH:
            raise TooLong


def encode(value: Any) -> list[Any]:
    """The tree of one value. Raises TooLong."""
    return Encoder().tree(value)


def special(value: Any, tree: Callable[[Any], list[Any]]) -> list[Any]:
    """The tree of a value whose type derives from none of the tables' types."""
    kind = type(value)
    if issubclass(kind, type):
        return ["tagged", "type", type_name(value)]
    if type_name(kind) in TEXTS:
        return ["tagged", "text", type_name(kind), str(value)]
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.eq:
        fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare]
        return ["tagged", "fields", type_name(kind), tree(tuple(fields))]
    if any(base.__module__ == "numpy" and base.__name__ == "generic" for base in kind.__mro__):
        plain = value.item()
        return tree(plain) if type(plain) is not kind else ["other", type_name(kind)]
    # Python compares an array with a list item by item and refuses to say whether that is true, except for one item.
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.size == 1:
        return tree(value.tolist())
    return ["other", type.__dict__["__name__"].__get__(kind)[:80]]


def type_name(kind: type) -> str:
    """The type's name, with its module unless it is built in."""
    module, name = str(kind.__module__), str(kind.__qualname__)
    return (name if module == "builtins" else f"{module}.{name}")[:200]


def hexadecimal(value: int) -> str:
    """Raises TooLong."""
    plain = int.__index__(value)  # an exact int, also of a subclass
    if plain.bit_length() > MAX_BITS:
        raise TooLong
    return f"{plain:x}"


def clock(value: Any) -> list[int]:
    return [value.hour, value.minute, value.second, value.microsecond]


def offset(value: Any, when: Any) -> list[int]:
    """Microseconds from UTC; nothing for a time without a zone."""
    gap = value.utcoffset(when) if when is not value else value.utcoffset()
    return [] if gap is None else [gap // MICROSECOND]


#: type -> (its name in a tree, its content as JSON values). A subclass counts as the first of its bases that is here.
PLAIN: dict[Any, tuple[str, Callable[[Any], list[Any]]]] = {
    bool: ("constant", lambda v: [repr(v)]),
    type(None): ("constant", lambda v: [repr(v)]),
    type(...): ("constant", lambda v: [repr(v)]),
    type(NotImplemented): ("constant", lambda v: [repr(v)]),
    int: ("int", lambda v: [hexadecimal(v)]),
    float: ("float", lambda v: [float.hex(v)]),
    complex: ("complex", lambda v: [v.real.hex(), v.imag.hex()]),
    str: ("str", lambda v: [str.__str__(v)]),
    bytes: ("bytes", lambda v: [bytes.hex(v)]),
    bytearray: ("bytearray", lambda v: [bytearray.hex(v)]),
    memoryview: ("bytes", lambda v: [v.tobytes().hex()]),
    decimal.Decimal: ("decimal", lambda v: [decimal.Decimal.__str__(v)]),
    datetime.datetime: ("datetime", lambda v: [v.year, v.month, v.day, *clock(v), *offset(v, v)]),
    datetime.date: ("date", lambda v: [v.year, v.month, v.day]),
    datetime.time: ("time", lambda v: [*clock(v), *offset(v, v)]),
    datetime.timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    datetime.timezone: ("timezone", lambda v: offset(v, None)),
    enum.Enum: ("enum", lambda v: [type_name(type(v)), str(v._name_)[:200]]),
}
#: The same for content that is values in turn.
NESTED: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    list: ("list", list.__iter__),
    tuple: ("tuple", tuple.__iter__),
    set: ("set", set.__iter__),
    frozenset: ("frozenset", frozenset.__iter__),
    collections.deque: ("deque", collections.deque.__iter__),
    collections.OrderedDict: ("OrderedDict", lambda v: collections.OrderedDict.items(v)),
    collections.Counter: ("Counter", dict.items),
    dict: ("dict", dict.items),
    type({}.keys()): ("dict_keys", iter),
    type({}.items()): ("dict_items", iter),
    type({}.values()): ("dict_values", iter),
    collections.abc.KeysView: ("set", iter),
    collections.abc.ItemsView: ("set", iter),
    collections.UserList: ("list", lambda v: iter(v.data)),
    collections.UserString: ("UserString", lambda v: [str(v.data)]),
    collections.UserDict: ("dict", lambda v: v.data.items()),
    collections.ChainMap: ("dict", lambda v: v.items()),
    types.MappingProxyType: ("dict", lambda v: v.items()),
    range: ("range", lambda v: [v.start, v.stop, v.step]),
    slice: ("slice", lambda v: [v.start, v.stop, v.step]),
    fractions.Fraction: ("fraction", lambda v: [v._numerator, v._denominator]),
    array.array: ("array", lambda v: [v.typecode, list(v)]),
    types.SimpleNamespace: ("namespace", lambda v: [vars(v)]),
}


def decode(tree: Any) -> object:
    """The value of a tree of `encode`. Raises ValueError and the like for anything else."""
    kind, *content = tree
    if kind in LITERALS:
        return LITERALS[kind](*content)
    if kind in ("enum", "tagged"):
        return tagged(kind, *content)
    return BUILT[kind](*map(decode, content))


def tagged(kind: str, first: str, second: str, content: Any = None) -> object:
    if kind == "enum":
        return unique(kind, typed(str, first), typed(str, second))
    if first == "type":
        return unique(first, typed(str, second), None)
    if first == "text":
        name = typed(str, second).replace("pathlib.PosixPath", "pathlib.PurePosixPath")
        return Tagged(first, name, typed(str, content))
    if first != "fields":
        raise ValueError(first)
    fields = tuple((typed(str, name), value) for name, value in typed(tuple, decode(content)))
    return Tagged(first, typed(str, second), fields)


@lru_cache(maxsize=256)
def unique(kind: str, type_name: str, content: Any) -> Tagged:
    """One object for each type and enum member, for tests that ask with `is`."""
    return Tagged(kind, type_name, content)


def typed(kind: type, value: Any) -> Any:
    """Raises ValueError if the value isn't exactly of this type."""
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} wanted")
    return value


def zone(*microseconds: Any) -> datetime.timezone | None:
    return datetime.timezone(datetime.timedelta(microseconds=typed(int, *microseconds))) if microseconds else None


def ranged(start: Any, stop: Any, step: Any) -> object:
    value = range(typed(int, start), typed(int, stop), typed(int, step))
    # `x in range` goes through all of it unless x is an int.
    return value if value.stop - value.start <= MAX_RANGE >= value.start - value.stop else Other("range")


#: How a value is built of JSON values.
LITERALS: dict[Any, Callable[..., object]] = {
    "constant": lambda name: CONSTANTS[name],
    "int": lambda digits: int(digits, 16),
    "float": float.fromhex,
    "complex": lambda real, imag: complex(float.fromhex(real), float.fromhex(imag)),
    "str": lambda text: typed(str, text),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "decimal": lambda text: decimal.Decimal(typed(str, text)),
    "datetime": lambda *v: datetime.datetime(*v[:7]).replace(tzinfo=zone(*v[7:])),
    "date": lambda *v: datetime.date(*v),
    "time": lambda *v: datetime.time(*v[:4]).replace(tzinfo=zone(*v[4:])),
    "timedelta": lambda days, seconds, micro: datetime.timedelta(typed(int, days), typed(int, seconds), micro),
    "timezone": zone,
    "other": lambda name: Other(typed(str, name)[:80]),
}
#: How a value is built of decoded values.
BUILT: dict[Any, Callable[..., object]] = {
    "list": lambda *items: list(items),
    "tuple": lambda *items: items,
    "set": lambda *items: set(items),
    "frozenset": lambda *items: frozenset(items),
    "deque": lambda *items: collections.deque(items),
    "OrderedDict": lambda *pairs: collections.OrderedDict(pairs),
    "Counter": lambda *pairs: collections.Counter(dict(pairs)),
    "dict": lambda *pairs: dict(pairs),
    "dict_keys": lambda *items: dict.fromkeys(items).keys(),
    "dict_items": lambda *pairs: dict(pairs).items(),
    "dict_values": lambda *items: dict(enumerate(items)).values(),
    "UserString": lambda text: typed(str, text),
    "range": ranged,
    "slice": slice,
    "fraction": lambda top, bottom: fractions.Fraction(typed(int, top), typed(int, bottom)),
    "array": lambda code, items: array.array(code, items),
    "namespace": lambda names: types.SimpleNamespace(**names),
}
