"""YAML files that people write: no key twice, and bounded whatever their aliases stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqrec_lib.errors import SeqRecError

MOST_NODES = 100_000  # values of a file: aliases of aliases could stand for any number


def read_yaml(path: Path) -> Any:
    """Read a YAML file in which no mapping has a key twice (YAML itself would keep the last).

    Raises:
        SeqRecError: the file cannot be read or is not such YAML, or its aliases stand for themselves or for more than
            `MOST_NODES` values.
    """
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    line = node.start_mark.line + 1
                    raise SeqRecError(f"{path}: key {key!r} occurs twice in the mapping at line {line}; remove one")
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8")
        if _expanded(yaml.compose(text, Strict), {}) > MOST_NODES:
            raise SeqRecError(f"{path}: its aliases stand for more than {MOST_NODES:,} values; write fewer")
        return yaml.load(text, Strict)
    except OSError as error:
        raise SeqRecError(f"{path}: cannot be read ({error.strerror}); run this in the project's folder") from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise SeqRecError(f"{path}: no valid YAML ({' '.join(str(error).split())}); correct it") from None


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Values that a YAML node stands for, each alias counted as what it repeats; ValueError for one in itself."""
    if node is None or isinstance(node.value, str):
        return 1
    if id(node) not in known:
        known[id(node)] = -1  # under way
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    if known[id(node)] < 0:
        raise ValueError(f"the alias of line {node.start_mark.line + 1} is a part of itself")
    return known[id(node)]
