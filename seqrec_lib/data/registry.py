"""The one list of data sets: where each comes from, its terms, its checksums, how it is read.

Files are looked for first (``data/<name>/``, plain, with ``.gz`` or inside the source's archive), then downloaded.
CONTRIBUTING.md shows how to add an entry. Its ``split_hash`` lets ``verification`` tell every reader of the study
whether they hold the same data.

The order of time is a part of what a data set is: ``ml-1m-recbole`` reads the files of ``ml-1m`` and gives
another test set. An entry names the further orders that are registered with it (``orders``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seqrec_lib.data import own, readers
from seqrec_lib.data.interactions import Order
from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError


@dataclass(frozen=True)
class RemoteFile:
    """A file as its source publishes it.

    name: the name it is looked for locally, plain or with ``.gz`` added
    url: where it is downloaded from; None: only found locally, or inside the source's archive
    checksum: ``md5:<hex>`` or ``sha256:<hex>`` of the file behind the URL; None: not known to us
    """

    name: str
    url: str | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published: its files by role, and what reads them.

    read: (files by role, strict) -> Interactions
    files: role ("ratings", "titles") -> file
    archive: the zip archive that holds the files, where there is one; read in place
    """

    read: readers.Reader
    files: Mapping[str, RemoteFile]
    archive: RemoteFile | None = None

    @property
    def downloads(self) -> tuple[RemoteFile, ...]:
        """What a download fetches; empty where the source is only found locally."""
        wanted = (self.archive,) if self.archive else tuple(self.files.values())
        return wanted if all(file.url for file in wanted) else ()


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    sources: in order of preference; the first whose files are found is used, else the first with URLs is
        downloaded; none: the data set is simulated
    folders: further names of the folder that may hold the files, besides ``folder``
    drop_untitled, drop_duplicates: cleaning before the k-core (see ``interactions``)
    k: every user and item keeps at least k interactions; least: users and items that must be left then
    counts: (users, items, interactions) after the k-core, where known
    split_hash: ``Sequences.split_hash`` of what the study's results rest on; None: not known to us
    paper: the name in the paper's Table 4, for the data sets that it lists
    order: of each user's interactions (see ``interactions.Order``)
    orders: further orders of the same files, each a data set ``<name>-<order>`` -> its split hash, where known
    base: the data set in the true order whose files these are; None: it is this one
    """

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    sources: tuple[Source, ...]
    folders: tuple[str, ...] = ()
    drop_untitled: bool = False
    drop_duplicates: bool = False
    k: int = 5
    least: int = 1
    counts: tuple[int, int, int] | None = None
    split_hash: str | None = None
    paper: str | None = None
    order: Order = "true"
    orders: Mapping[Order, str | None] = field(default_factory=dict)
    base: str | None = None

    @property
    def folder(self) -> str:
        """The usual name of the folder that holds the files."""
        return self.base or self.name


_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data"
_STANFORD = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"

_MOVIELENS_LICENCE = (
    "GroupLens terms: research use, acknowledgement in publications, no redistribution without separate "
    "permission, no commercial use without permission; not an open-source licence."
)
_AMAZON_LICENCE = (
    "McAuley Lab, UC San Diego: asks for citation and states no redistribution licence; treated here as "
    "research use, not for redistribution."
)
_AMAZON_2023_CITATION = (
    "Yupeng Hou, Jiacheng Li, Zhankui He, An Yan, Xiusi Chen and Julian McAuley (2024). Bridging Language "
    "and Items for Retrieval and Recommendation. arXiv:2403.03952"
)
ORDER_TITLES: dict[Order, str] = {
    "recbole": "RecBole's order",
    "ties-item-id": "ties by item id",
    "ties-random-0": "ties at random (seed 0)",
    "ties-random-1": "ties at random (seed 1)",
    "ties-random-2": "ties at random (seed 2)",
    "file-order": "the file's order",
}


def _with_orders(spec: DatasetSpec) -> Iterator[DatasetSpec]:
    """The data set, then the same files in each of its further orders."""
    yield spec
    for order, split_hash in spec.orders.items():
        yield replace(
            spec,
            name=f"{spec.name}-{order}",
            title=f"{spec.title}, {ORDER_TITLES[order]}",
            base=spec.name,
            order=order,
            orders={},
            split_hash=split_hash,
            paper=None,
        )


def _movielens(
    name: str,
    title: str,
    page: str,
    read: readers.Reader,
    files: tuple[str, str],
    checksum: str | None = None,
    licence: str = _MOVIELENS_LICENCE,
    **known: Any,
) -> DatasetSpec:
    """A data set of GroupLens; ``files``: of ratings and of titles, in an archive."""
    ratings, titles = map(RemoteFile, files)
    archive = RemoteFile(f"{name}.zip", f"https://files.grouplens.org/datasets/movielens/{name}.zip", checksum)
    citation = (
        "F. Maxwell Harper and Joseph A. Konstan (2015). The MovieLens Datasets: History and Context. "
        "ACM Transactions on Interactive Intelligent Systems 5(4), 19. https://doi.org/10.1145/2827872"
    )
    sources = (Source(read, {"ratings": ratings, "titles": titles}, archive),)
    return DatasetSpec(
        name, title, f"https://grouplens.org/datasets/movielens/{page}/", licence, citation, sources, **known
    )


def _amazon_2023(name: str, title: str, category: str, paper: str, counts: tuple[int, int, int]) -> DatasetSpec:
    """A category of 2023. The paper's counts come from the raw reviews, with repeated (user, item) pairs kept; the
    published csv keeps only the earliest of a pair, so that its 5-core is smaller and its split hash another."""
    meta = RemoteFile(f"meta_{category}.jsonl", f"{_AMAZON}/amazon_2023/raw/meta_categories/meta_{category}.jsonl.gz")
    reviews = RemoteFile(f"{category}.jsonl", f"{_AMAZON}/amazon_2023/raw/review_categories/{category}.jsonl.gz")
    ratings = RemoteFile(f"{category}.csv", f"{_AMAZON}/amazon_2023/benchmark/0core/rating_only/{category}.csv.gz")
    return DatasetSpec(
        name=name,
        title=title,
        homepage="https://amazon-reviews-2023.github.io/",
        licence=_AMAZON_LICENCE,
        citation=_AMAZON_2023_CITATION,
        sources=(
            Source(readers.amazon_2023_json, {"ratings": reviews, "titles": meta}),
            Source(readers.amazon_2023_csv, {"ratings": ratings, "titles": meta}),
        ),
        folders=(f"amazon-2023-{category}", f"amazon_2023_{category}", category),
        counts=counts,
        paper=paper,
        orders={"recbole": None},
    )


def _stand_in(*, reviews: RemoteFile, metadata: RemoteFile, **known: Any) -> DatasetSpec:
    """An older Amazon category, which stands in for the paper's of 2023; a processed copy is preferred to the raw
    reviews. Items without a title and exact duplicates (user, item, timestamp) are dropped before the 5-core."""
    processed = {"ratings": RemoteFile("interactions.csv"), "titles": RemoteFile("item_titles.csv")}
    raw = {"ratings": reviews, "titles": metadata}
    return DatasetSpec(
        licence=_AMAZON_LICENCE,
        sources=(
            Source(readers.processed_csv, processed),  # 5-core, in time order
            Source(readers.amazon_reviews, raw),
        ),
        drop_untitled=True,
        drop_duplicates=True,
        **known,
    )


DATASETS: dict[str, DatasetSpec] = {
    entry.name: entry
    for spec in (
        DatasetSpec(  # a user simulator made for this study: `simulate`
            name="demo",
            title="Demo (simulated)",
            homepage="",
            licence="Part of this project, under its licence. Simulated: no real user, film or rating.",
            citation="",
            sources=(),
            counts=(1_000, 499, 29_914),
            split_hash="c646b52b434c4ee9d9409434e3168a22706fd2aeb033a80e91e00a73b099bbf2",
        ),
        _movielens(
            "ml-100k",
            "MovieLens 100K",
            "100k",
            readers.movielens_100k,
            ("u.data", "u.item"),
            "md5:0e33842e24a9c977be4e0107933c0723",
            counts=(943, 1_349, 99_287),
            split_hash="4bfc6066e9a5850ed808b8c914ecbe2006dd9f7c579d7d48a7bf1466a2f8ba9d",
            # RecBole's order is that of its defaults, as for other data sets. Its own settings for the name ml-100k
            # scale timestamps to 0..1 before they become float32; that leaves most of the true order.
            orders={
                "recbole": "d1a81842ba133c5f8ad4b71f4adb2eb2bed1df91e77f0f2307296365671fcc0a",
                "ties-item-id": "f5ef8a0bbb9ebcf09c463e5cff4c21381d87698822174cde11ecbd94f5a40b56",
                "ties-random-0": "cbbf3cc1503f369bd38c5f9e71f9cda30f6313aaa71a14fb960d660ffbf73632",
                "ties-random-1": "e3a56e4baa974856d56a271f805f28ab1b11a4d70b2f733ee7d037d6aca6210f",
                "ties-random-2": "2c050d140a82939351ba12acc0e157d7deb7dbfbd0d8c843250ac63f50ef81dc",
                "file-order": "aacaa95fb506e1f15b51697ae9586f9314632c10438cf4a61450f4cc82069e07",
            },
        ),
        _movielens(
            "ml-1m",
            "MovieLens 1M",
            "1m",
            readers.movielens_1m,
            ("ratings.dat", "movies.dat"),
            "md5:c4d9eecfca2ab87c1945afe126590906",
            counts=(6_040, 3_416, 999_611),
            # The copy behind the published results was reassembled from public parts; only ratings that the 5-core
            # drops have interpolated timestamps.
            split_hash="b9ab47074ac643ff18c6b134f27bfedb40fe9b57b36b5744a99e863119fdab6e",
            orders={
                "recbole": "7ff8833dda13b48258787ad8d5ee3793ec20510ebbd25b6990f8b2bc21a7a913",
                "ties-item-id": "a00f3a092905b69ec77c1a8f978cddaaecd94703f195021d6fe382e9cc1e8fa8",
                "ties-random-0": "aac460749b08abfd1713c222df22c84c35b77a7ab8e708bc7b124c8ce1bff2e8",
                "ties-random-1": "1569fafac6d7907831b25716fa7835ce78b7ac5443d68f9d02a15b08db371303",
                "ties-random-2": "f5f6dc543b5be78b847e09223da243b0791f766689f883cbdf33d3a6ab520e2e",
                "file-order": "cfb400004b4a26fd8b17f3ff83d62c365be21ea19600a7a644182f4c1bdb54ed",
            },
            paper="MovieLens-1M",
        ),
        _movielens(  # for development; GroupLens calls it not appropriate for shared research results
            "ml-latest-small",
            "MovieLens latest-small (September 2018)",
            "latest",
            readers.movielens_csv,
            ("ratings.csv", "movies.csv"),
            licence=(
                "GroupLens terms: research use, acknowledgement, no commercial use without permission; "
                "redistribution, including transformations, only under these same conditions; not an "
                "open-source licence."
            ),
            counts=(610, 3_650, 90_274),
            split_hash="1495af4449da5f6fdb315ff094722463797b979bed68bdbd699311e7fdd3496b",
        ),
        _stand_in(
            name="amazon-2014-beauty",
            title="Amazon 2014 Beauty",
            homepage="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
            citation=(
                "Julian McAuley, Christopher Targett, Qinfeng Shi and Anton van den Hengel (2015). "
                "Image-Based Recommendations on Styles and Substitutes. SIGIR. Ruining He and Julian "
                "McAuley (2016). Ups and Downs: Modeling the Visual Evolution of Fashion Trends with "
                "One-Class Collaborative Filtering. WWW."
            ),
            reviews=RemoteFile("reviews_Beauty.json", f"{_STANFORD}/reviews_Beauty.json.gz"),
            metadata=RemoteFile("meta_Beauty.json", f"{_STANFORD}/meta_Beauty.json.gz"),
            counts=(22_332, 12_086, 198_215),
            split_hash="1888ec09db62cbb7d3279d95f1b20e762429d6ef9dd919014c4063462a804671",
        ),
        _stand_in(
            name="amazon-2018-video-games",
            title="Amazon 2018 Video Games",
            homepage="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
            citation=(
                "Jianmo Ni, Jiacheng Li and Julian McAuley (2019). Justifying Recommendations using "
                "Distantly-Labeled Reviews and Fine-Grained Aspects. EMNLP-IJCNLP."
            ),
            reviews=RemoteFile("Video_Games.json", f"{_AMAZON}/amazon_v2/categoryFiles/Video_Games.json.gz"),
            metadata=RemoteFile("meta_Video_Games.json", f"{_AMAZON}/amazon_v2/metaFiles2/meta_Video_Games.json.gz"),
            counts=(50_597, 16_874, 453_637),
            split_hash="7030e4336738f7a26f823a13154b79365696adf9304cb1bfe2a8f38b53e874f6",
        ),
        _amazon_2023(
            "amazon-2023-video-games",
            "Amazon 2023 Video Games",
            "Video_Games",
            "Video Games",
            (98_906, 26_354, 857_505),
        ),
        _amazon_2023(
            "amazon-2023-beauty-and-personal-care",
            "Amazon 2023 Beauty and Personal Care",
            "Beauty_and_Personal_Care",
            "Beauty and P.C.",
            (750_834, 211_451, 6_860_059),
        ),
    )
    for entry in _with_orders(spec)
}


def get(name: str) -> DatasetSpec:
    """The data set of this name, or of the id of a reader's own file (`own`).

    Raises SeqRecError naming close matches for an unknown one.
    """
    if name in DATASETS:
        return DATASETS[name]
    if own.is_own(name):
        return _of_reader(own.registered(name))
    if name.startswith(own.SCHEME):
        raise SeqRecError(f"data set {name!r} is a file's address; give it to a notebook, or the file to --data")
    close = difflib.get_close_matches(name.lower().replace("_", "-"), DATASETS, n=3, cutoff=0.5)
    known = ", ".join(spec.name for spec in DATASETS.values() if spec.base is None)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known ones: {known}"
    raise SeqRecError(f"unknown data set {name!r}; {hint}")


def find(name: str) -> DatasetSpec | None:
    """The data set of this name; None where there is none here."""
    try:
        return get(name)
    except SeqRecError:
        return None


def _of_reader(file: own.OwnFile) -> DatasetSpec:
    return DatasetSpec(
        name=file.name,
        title=file.title,
        homepage="",
        licence="The reader's own data.",
        citation="",
        sources=(Source(file.read, {role: RemoteFile(path) for role, path in file.files.items()}),),
        least=own.LEAST,
    )


def base_name(name: str) -> str:
    """The data set in the true order whose files this one reads; other names are returned as they are.

    >>> base_name("ml-1m-recbole"), base_name("ml-1m")
    ('ml-1m', 'ml-1m')
    """
    return DATASETS[name].folder if name in DATASETS else name


def verification(sequences: Sequences) -> Literal["verified", "unverified"]:
    """Whether these are the sequences that the registry knows under their name, by split hash.

    "unverified": it differs, or there is nothing to compare it with (the entry knows no hash).
    """
    spec = DATASETS.get(sequences.name)
    known = None if spec is None else spec.split_hash
    return "verified" if known is not None and known == sequences.split_hash else "unverified"
