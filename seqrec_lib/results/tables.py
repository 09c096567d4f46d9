"""Tables beside a record, one value per user or per repetition, as Parquet; and the description that binds them to it.

A record holds the digest, the number of rows and the columns of each of its tables. A file is read only when it is the
one described, so neither a flipped bit nor another run's table gets in; and before its values are unpacked, its size in
memory is bounded by what its columns say, as a small file may unpack to gigabytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError

if TYPE_CHECKING:
    import pyarrow as pa

UNPACKED_LIMIT = 512_000_000  # bytes of one table in memory
WORD = 80  # letters of a text, at most: names of models, paths and steps
WIDTH = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float": 4}
WIDTH |= {"int64": 8, "uint64": 8, "double": 8, "string": WORD, "null": 1}  # bytes of a value; other types are refused


def table_bytes(table: pa.Table) -> bytes:
    """The Parquet file of a table: zstd, whole numbers of up to 64 bits in as few as hold them all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(narrowed(table), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def narrowed(table: pa.Table) -> pa.Table:
    """The same numbers, 64-bit whole ones as int16 or int32 where these hold all of a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(table.schema):
        if field.type == pa.int64() and table.num_rows > table[field.name].null_count:
            bounds = pc.min_max(table[field.name]).as_py()
            for kind, limit in ((pa.int16(), 2**15), (pa.int32(), 2**31)):
                if -limit <= bounds["min"] and bounds["max"] < limit:
                    table = table.set_column(index, field.name, table[field.name].cast(kind))
                    break
    return table


def describe_table(table: pa.Table, blob: bytes) -> dict[str, Any]:
    """What a record says of a table: digest of its file, rows, and columns with their types."""
    columns = {field.name: str(field.type) for field in narrowed(table).schema}
    return {"sha256": hashlib.sha256(blob).hexdigest(), "rows": table.num_rows, "columns": columns}


def parse_table(blob: bytes, description: Mapping[str, Any], where: str) -> pa.Table:
    """The table of a file that a record describes.

    Raises:
        SeqRecError: it is another file, no Parquet file, or larger in memory than `UNPACKED_LIMIT`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if hashlib.sha256(blob).hexdigest() != description["sha256"]:
        raise SeqRecError(f"{where}: not the table that its record describes (damaged, or another run's); restore it")
    try:
        file = pq.ParquetFile(io.BytesIO(blob))
        found = {field.name: str(field.type) for field in file.schema_arrow}
        rows = file.metadata.num_rows
        unknown = next((kind for kind in found.values() if kind not in WIDTH), None)
        if unknown is not None:
            raise SeqRecError(f"{where}: a column of type {unknown}; tables hold numbers and short words")
        if (found, rows) != (description["columns"], description["rows"]):
            raise SeqRecError(f"{where}: {rows:,} rows of {found} instead of {dict(description)}; delete the run")
        unpacked = rows * sum(WIDTH[kind] for kind in found.values())
        if unpacked > UNPACKED_LIMIT:
            raise SeqRecError(f"{where}: {unpacked:,} bytes unpacked, more than {UNPACKED_LIMIT:,}")
        words = [name for name, kind in found.items() if kind == "string"]
        table = pq.read_table(io.BytesIO(blob), read_dictionary=words)  # a word that is repeated is read once
        for name in words:
            _check_words(table[name], f"{where}: column {name}")
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
        return table
    except (OSError, ValueError, pa.ArrowException, NotImplementedError) as error:
        raise SeqRecError(f"{where}: not a Parquet file ({' '.join(str(error).split())}); delete the run") from None


def _check_words(column: pa.ChunkedArray, where: str) -> None:
    import pyarrow.compute as pc

    for chunk in column.chunks:
        longest = pc.max(pc.utf8_length(chunk.dictionary)).as_py() or 0
        if longest > WORD:
            raise SeqRecError(f"{where}: a text of {longest:,} letters, more than {WORD}; delete the run")
